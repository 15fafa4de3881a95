import { FreeholdError } from '../base/errors.ts';
import { PACKAGE_NAME_CHARACTERS_MAX, parsePackageName, quoted } from '../base/ids.ts';
import { quantizationIn } from './gguf/gguf-choice.ts';
import { parseShardName } from './gguf/gguf-shards.ts';

/** Models that were imported, not published, are packages of this namespace: the home's own key signs them. */
export const LOCAL_NAMESPACE = 'local';

/**
 * The package name of an imported model, from the name that its file, repository or tag has elsewhere:
 * `SmolLM2-135M-Instruct.Q4_1.gguf` becomes `local/smollm2-135m-instruct`. What names a quantization, a shard or the
 * format goes, because the variant says it.
 * @throws NAME_INVALID when nothing is left
 */
export function localPackageName(foreign: string): string {
  const shard = parseShardName(foreign);
  const stem = (shard?.prefix ?? foreign).replace(/\.gguf$/i, '');
  const quantization = quantizationIn(stem);
  const name = stem
    .toLowerCase()
    .split(quantization === undefined ? /$^/ : quantization.toLowerCase())
    .join('-')
    .replace(/[-_.]gguf$/, '')
    .replace(/[^a-z0-9._]+/g, '-')
    // A component allows one ".", one or two "_", or dashes between letters and digits.
    .replace(/[-._]*-[-._]*|\.[._]+|_+\.[._]*|_{3,}/g, '-')
    .replace(/^[-._]+|[-._]+$/g, '')
    .replace(/[-._]gguf$/, '')
    .slice(0, PACKAGE_NAME_CHARACTERS_MAX - LOCAL_NAMESPACE.length - 1)
    .replace(/[-._]+$/, '');
  if (name === '') {
    throw new FreeholdError('NAME_INVALID', `no package name follows from ${quoted(foreign)}`, {
      hint: 'give one with --name NAME',
    });
  }
  return parsePackageName(`${LOCAL_NAMESPACE}/${name}`);
}

/**
 * The name that a user chose with `--name`: `NAME`, or `local/NAME`.
 * @throws NAME_INVALID for another namespace: the home's key is not good for it
 */
export function chosenLocalName(text: string): string {
  const name = parsePackageName(text.includes('/') ? text : `${LOCAL_NAMESPACE}/${text}`);
  if (name.startsWith(`${LOCAL_NAMESPACE}/`)) return name;
  throw new FreeholdError(
    'NAME_INVALID',
    `an imported model is a package ${LOCAL_NAMESPACE}/…, not ${quoted(name)}`,
    {
      hint: 'to publish under a name of your own: freehold init model, freehold build, freehold sign',
    },
  );
}
