import { mkdir, readdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { FreeholdError } from '../../core/base/errors.ts';
import { parsePackageName } from '../../core/base/ids.ts';
import type { Freehold } from './freehold.ts';
import { fileError } from './local-file.ts';

export interface InitOptions {
  readonly name?: string;
  readonly weights?: string;
}

/**
 * Writes a `model.yaml` to start from; weights that lie in the folder are filled in.
 * @throws ALREADY_EXISTS, NAME_INVALID, PERMISSION_DENIED
 */
export async function initModel(
  _freehold: Freehold,
  folder: string,
  options: InitOptions,
): Promise<{ path: string; folder: string }> {
  const name = parsePackageName(options.name ?? 'publisher/model');
  const failed = (error: unknown) => {
    throw fileError(error, folder);
  };
  await mkdir(folder, { recursive: true }).catch(failed);
  const weights = options.weights ?? (await findWeights(folder).catch(failed)) ?? 'model-f16.gguf';
  const file = path.join(folder, 'model.yaml');
  await writeFile(file, modelYaml(name, weights), { flag: 'wx' }).catch((error: unknown) => {
    const known = fileError(error, file);
    throw known.code === 'ALREADY_EXISTS'
      ? new FreeholdError('ALREADY_EXISTS', `${file} exists already; it was left as it is`, { cause: error })
      : known;
  });
  return { path: file, folder };
}

async function findWeights(folder: string): Promise<string | undefined> {
  const files = (await readdir(folder)).filter((name) => name.endsWith('.gguf')).sort();
  return files[0];
}

function modelYaml(name: string, weights: string): string {
  return `# What freehold build makes a package of. Every key is explained in spec/PACKAGE.md.
name: ${name}
version: 0.1.0
license: LicenseRef-Proprietary # an SPDX expression (Apache-2.0), or LicenseRef-…
description: One sentence for the people who will choose this model.
weights: ${JSON.stringify(weights)} # GGUF, relative to this file
# chatTemplate: chat.jinja         # else the one in the weights
# parameters: { temperature: 0.7, stop: ["<|im_end|>"] }
# files: [MODEL_CARD.md, LICENSE]
# variants: [q8_0, q4_k_m]         # made from F32, F16 or BF16 weights; without it, the weights as they are
`;
}
