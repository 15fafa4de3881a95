import { stat } from 'node:fs/promises';
import path from 'node:path';
import { Digest } from '../../core/base/digest.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import { parseArtifactDocument } from '../../core/format/artifact-documents.ts';
import { chooseGguf, type GgufWanted } from '../../core/format/gguf/gguf-choice.ts';
import type { OciDescriptor } from '../../core/format/oci.ts';
import { DESCRIPTOR_PATH } from '../../core/format/package-descriptor.ts';
import {
  findLmStudioRepository,
  findOllamaModel,
  type LocalModel,
  listLmStudioModels,
  listOllamaModels,
  plainFilesIn,
} from '../../io/fetch/local-model-folders.ts';
import type { Freehold } from './freehold.ts';
import { readGgufWeights } from './gguf-weights.ts';
import { type ImportOptions, type ImportResult, importName, UNSIGNED } from './import-options.ts';
import { installFromFolder } from './install-folder.ts';
import { type ForeignPlace, installForeignArtifact, nameWithTag } from './install-foreign.ts';
import { installGguf } from './install-gguf.ts';
import type { InstallResult } from './install-package.ts';
import { fileError, readFileBytes } from './local-file.ts';

/**
 * Installs what a path names: a folder that `freehold export` wrote, a GGUF file (or one of its shards for all), or a
 * folder with exactly one GGUF model.
 * @throws NOT_FOUND, REFERENCE_INVALID when a folder has several models, and what `installGguf` throws
 */
export async function installFromPath(
  freehold: Freehold,
  given: string,
  options: ImportOptions,
): Promise<InstallResult | ImportResult> {
  const found = await stat(given).catch((error: unknown) => {
    throw fileError(error, given);
  });
  if (!found.isDirectory()) return installGgufFile(freehold, given, options);
  const names = await plainFilesIn(given);
  if (names.includes(DESCRIPTOR_PATH) || !names.some((name) => /\.gguf$/i.test(name))) {
    return installFromFolder(freehold, given, options.signal, options.expect);
  }
  const { path: first } = chooseGguf(names, { kind: 'only' }, given);
  return installGgufFile(freehold, path.join(given, first), options);
}

async function installGgufFile(
  freehold: Freehold,
  file: string,
  options: ImportOptions,
): Promise<ImportResult> {
  const name = importName(options, path.basename(file));
  // Before gigabytes are copied: what is no model is refused at once.
  const { paths } = await readGgufWeights(file);
  const weights = paths.map((item) => ({ kind: 'local', path: item }) as const);
  const installed = await installGguf(freehold, weights, { name }, options);
  return { ...installed, source: `file:${path.resolve(file)}`, remarks: [UNSIGNED] };
}

/**
 * Installs a model of Ollama's folder: its manifest says which blob is the weights, and every blob is compared with its
 * digest.
 * @throws MODEL_NOT_FOUND, NOT_SUPPORTED, and what `installGguf` throws
 */
export async function installFromOllama(
  freehold: Freehold,
  text: string,
  options: ImportOptions,
): Promise<ImportResult> {
  const model = await findOllamaModel(freehold.env, text);
  const label = `ollama:${model.name}`;
  const blobOf = (layer: OciDescriptor) => ({ digest: layer.digest, sizeBytes: layer.size });
  const place: ForeignPlace = {
    label,
    source: label,
    name: nameWithTag(model.name.replace(/:[^:]*$/, ''), model.name.slice(model.name.lastIndexOf(':') + 1)),
    async readSmall(layer, bytesMax) {
      const file = await model.blobPath(blobOf(layer));
      const bytes = await readFileBytes(file, { bytesMax, signal: options.signal });
      if (Digest.of(bytes) === layer.digest) return bytes;
      throw new FreeholdError('DIGEST_MISMATCH', `${file} does not have the digest in its name`, {
        hint: `fetch the model again: ollama pull ${model.name}`,
      });
    },
    bring: async (layer) => ({
      kind: 'local',
      path: await model.blobPath(blobOf(layer)),
      ...blobOf(layer),
    }),
  };
  return installForeignArtifact(freehold, parseArtifactDocument(model.manifest, label), place, options);
}

/** What other programs keep on this machine, with the references under which it can be installed. */
export async function listLocalModels(freehold: Freehold): Promise<LocalModel[]> {
  return [...(await listOllamaModels(freehold.env)), ...(await listLmStudioModels(freehold.env))];
}

/** `PUBLISHER/REPO`, `PUBLISHER/REPO/FILE.gguf` or `PUBLISHER/REPO:QUANTIZATION`. */
export async function installFromLmStudio(
  freehold: Freehold,
  text: string,
  options: ImportOptions,
): Promise<ImportResult> {
  const [place = '', quantization] = text.split(':');
  const [publisher = '', repo = '', ...rest] = place.split('/');
  const repository = await findLmStudioRepository(freehold.env, `${publisher}/${repo}`);
  const wanted: GgufWanted =
    quantization !== undefined
      ? { kind: 'quantization', quantization }
      : rest.length > 0
        ? { kind: 'file', path: rest.join('/') }
        : { kind: 'only' };
  const { path: first, files } = chooseGguf(repository.files, wanted, `lmstudio:${repository.name}`);
  for (const file of files) await repository.filePath(file);
  return installGgufFile(freehold, await repository.filePath(first), options);
}
