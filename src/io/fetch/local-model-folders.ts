import { constants } from 'node:fs';
import { type FileHandle, open, readdir, readFile, realpath, stat } from 'node:fs/promises';
import path from 'node:path';
import { collectBytes } from '../../core/base/byte-source.ts';
import { Digest } from '../../core/base/digest.ts';
import { FreeholdError, systemErrorCode } from '../../core/base/errors.ts';
import { quoted } from '../../core/base/ids.ts';
import { DOCUMENT_BYTES_MAX, parseArtifactDocument } from '../../core/format/artifact-documents.ts';
import type { BlobReference } from '../../core/format/artifact-place.ts';
import { ggufCandidates } from '../../core/format/gguf/gguf-choice.ts';
import type { Environment } from '../http/http-connections.ts';

/** A model that another program keeps on this machine. */
export interface LocalModel {
  /** What `freehold install` takes: `ollama:llama3.2:1b`. */
  readonly reference: string;
  readonly sizeBytes: number;
  /** The folder of that program. */
  readonly folder: string;
}

/** Names of one segment: no `.` or `..`, nothing that a path could leave a folder by. */
const SEGMENT = /^[A-Za-z0-9][A-Za-z0-9._ -]{0,127}$/;
/** Registry, namespace, name, tag; publisher, repository, folders of it. */
const DEPTH_MAX = 6;
/** More files than any collection of models has. */
const FILES_MAX = 20_000;
const DEFAULT_REGISTRY = 'registry.ollama.ai';
const DEFAULT_NAMESPACE = 'library';
const DEFAULT_TAG = 'latest';
const OLLAMA_MODEL = 'application/vnd.ollama.image.model';

/** Where Ollama keeps its models: OLLAMA_MODELS, the user's folder, that of the system's service. */
function ollamaFolders(environment: Environment): string[] {
  const { OLLAMA_MODELS, HOME } = environment;
  if (OLLAMA_MODELS) return [path.resolve(OLLAMA_MODELS)];
  return [...(HOME ? [path.join(HOME, '.ollama', 'models')] : []), '/usr/share/ollama/.ollama/models'];
}

/** Where LM Studio keeps its models, in newer and older versions; its pointer file says where else its home is. */
async function lmStudioFolders(environment: Environment): Promise<string[]> {
  const { HOME } = environment;
  if (!HOME) return [];
  const pointer = await readFile(path.join(HOME, '.lmstudio-home-pointer'), 'utf8').catch(() => '');
  const moved = pointer.trim();
  return [
    ...(path.isAbsolute(moved) && !moved.includes('\0') ? [path.join(moved, 'models')] : []),
    path.join(HOME, '.lmstudio', 'models'),
    path.join(HOME, '.cache', 'lm-studio', 'models'),
  ];
}

/** A model of Ollama: its manifest, and where its blobs lie. Nothing of it is verified but by digest. */
export interface OllamaModel {
  /** `llama3.2:1b`, as Ollama shows it. */
  readonly name: string;
  readonly manifest: Buffer;
  /** @throws FILE_MISSING, PERMISSION_DENIED when the blob is a link that leads out of the folder */
  blobPath(blob: BlobReference): Promise<string>;
}

/**
 * Finds `[[HOST/]NAMESPACE/]NAME[:TAG]` among Ollama's models.
 * @throws MODEL_NOT_FOUND with the folders that were looked into, REFERENCE_INVALID, PERMISSION_DENIED
 */
export async function findOllamaModel(environment: Environment, text: string): Promise<OllamaModel> {
  const segments = ollamaSegments(text);
  const folders = ollamaFolders(environment);
  for (const folder of folders) {
    const file = path.join(folder, 'manifests', ...segments);
    const manifest = await readInside(folder, file, DOCUMENT_BYTES_MAX);
    if (manifest === undefined) continue;
    return {
      name: ollamaName(segments),
      manifest,
      blobPath: async ({ digest }) => {
        // Older versions of Ollama wrote the colon.
        for (const separator of ['-', ':']) {
          const blob = path.join(folder, 'blobs', `sha256${separator}${Digest.hex(digest)}`);
          const real = await insidePath(folder, blob);
          if (real !== undefined) return real;
        }
        throw new FreeholdError('FILE_MISSING', `Ollama has no blob ${digest} in ${folder}`, {
          hint: `fetch the model again: ollama pull ${ollamaName(segments)}`,
        });
      },
    };
  }
  throw new FreeholdError('MODEL_NOT_FOUND', `Ollama has no model ${quoted(text)} on this machine`, {
    hint: `looked into ${folders.join(', ')}; OLLAMA_MODELS names another folder; freehold catalog list --local shows what is there`,
  });
}

function ollamaSegments(text: string): readonly [string, string, string, string] {
  const [place = '', tag = DEFAULT_TAG, ...more] = text.split(':');
  const parts = place.split('/');
  const name = parts.pop() ?? '';
  const namespace = parts.pop() ?? DEFAULT_NAMESPACE;
  const host = parts.pop() ?? DEFAULT_REGISTRY;
  const segments = [host, namespace, name, tag] as const;
  if (more.length === 0 && parts.length === 0 && segments.every((segment) => SEGMENT.test(segment))) {
    return segments;
  }
  throw new FreeholdError('REFERENCE_INVALID', `not a name of a model of Ollama: ${quoted(text)}`, {
    hint: 'ollama:NAME:TAG, as ollama list shows it',
  });
}

function ollamaName([host, namespace, name, tag]: readonly [string, string, string, string]): string {
  const isDefaultHost = host === DEFAULT_REGISTRY;
  const prefix = isDefaultHost && namespace === DEFAULT_NAMESPACE ? '' : `${namespace}/`;
  return `${isDefaultHost ? '' : `${host}/`}${prefix}${name}:${tag}`;
}

/** Every model of Ollama with weights, by name; what cannot be read is left out. */
export async function listOllamaModels(environment: Environment): Promise<LocalModel[]> {
  const found: LocalModel[] = [];
  for (const folder of ollamaFolders(environment)) {
    for (const file of await plainFilesIn(path.join(folder, 'manifests'))) {
      const segments = file.split('/');
      const [host, namespace, name, tag] = segments;
      if (segments.length !== 4 || !host || !namespace || !name || !tag) continue;
      if (!segments.every((segment) => SEGMENT.test(segment))) continue;
      const sizeBytes = await ollamaWeightsBytes(folder, path.join(folder, 'manifests', file));
      if (sizeBytes === undefined) continue;
      found.push({ reference: `ollama:${ollamaName([host, namespace, name, tag])}`, sizeBytes, folder });
    }
  }
  return found.toSorted(byReference);
}

async function ollamaWeightsBytes(folder: string, file: string): Promise<number | undefined> {
  try {
    const manifest = await readInside(folder, file, DOCUMENT_BYTES_MAX);
    if (manifest === undefined) return undefined;
    const { layers } = parseArtifactDocument(manifest, file);
    return layers.find(({ mediaType }) => mediaType.split(';')[0] === OLLAMA_MODEL)?.size;
  } catch {
    return undefined;
  }
}

/** A repository in LM Studio's folder. */
export interface LmStudioRepository {
  /** `PUBLISHER/REPO`. */
  readonly name: string;
  readonly folder: string;
  /** Plain files, relative, with `/`. */
  readonly files: readonly string[];
  /** Absolute path of a file. @throws FILE_MISSING, PERMISSION_DENIED when it leads out of LM Studio's folder */
  filePath(file: string): Promise<string>;
}

/** @throws MODEL_NOT_FOUND, REFERENCE_INVALID */
export async function findLmStudioRepository(
  environment: Environment,
  name: string,
): Promise<LmStudioRepository> {
  const segments = name.split('/');
  if (segments.length !== 2 || !segments.every((segment) => SEGMENT.test(segment))) {
    throw new FreeholdError('REFERENCE_INVALID', `not a model of LM Studio: ${quoted(name)}`, {
      hint: 'lmstudio:PUBLISHER/REPO or lmstudio:PUBLISHER/REPO/FILE.gguf',
    });
  }
  const roots = await lmStudioFolders(environment);
  for (const root of roots) {
    const folder = path.join(root, ...segments);
    const files = await plainFilesIn(folder);
    if (files.length === 0) continue;
    return {
      name,
      folder,
      files,
      filePath: async (file) => {
        const real = await insidePath(root, path.join(folder, ...file.split('/')));
        if (real !== undefined) return real;
        throw new FreeholdError('FILE_MISSING', `${file} is not in ${folder}`);
      },
    };
  }
  throw new FreeholdError('MODEL_NOT_FOUND', `LM Studio has no ${quoted(name)} on this machine`, {
    hint: `looked into ${roots.join(', ')}; freehold catalog list --local shows what is there`,
  });
}

/** Every GGUF model of LM Studio. */
export async function listLmStudioModels(environment: Environment): Promise<LocalModel[]> {
  const found: LocalModel[] = [];
  for (const folder of await lmStudioFolders(environment)) {
    for (const { path: first, files } of ggufCandidates(await plainFilesIn(folder))) {
      if (first.split('/').length < 3) continue;
      let sizeBytes = 0;
      for (const file of files)
        sizeBytes += (await stat(path.join(folder, file)).catch(() => undefined))?.size ?? 0;
      found.push({ reference: `lmstudio:${first}`, sizeBytes, folder });
    }
  }
  return found.toSorted(byReference);
}

const byReference = (left: LocalModel, right: LocalModel) => (left.reference < right.reference ? -1 : 1);

/**
 * Plain files below a folder, relative, with `/`, in order; symbolic links are neither listed nor followed, except that the
 * folder itself may be one: people move their models to another disk. Empty when there is no such folder.
 */
export async function plainFilesIn(folder: string): Promise<string[]> {
  const found: string[] = [];
  const visit = async (below: string, depth: number): Promise<void> => {
    const items = await readdir(path.join(folder, below), { withFileTypes: true }).catch(() => []);
    for (const item of items.toSorted((left, right) => (left.name < right.name ? -1 : 1))) {
      if (found.length >= FILES_MAX) return;
      const name = below === '' ? item.name : `${below}/${item.name}`;
      if (item.isFile()) found.push(name);
      else if (item.isDirectory() && depth < DEPTH_MAX) await visit(name, depth + 1);
    }
  };
  await visit('', 1);
  return found;
}

/**
 * The real path of a file, when it lies in the real folder. A link inside the folder may stay inside; one that leads out
 * would let whoever writes there have us read any file of the user's.
 * @returns undefined when there is no such file
 * @throws PERMISSION_DENIED
 */
async function insidePath(folder: string, file: string): Promise<string | undefined> {
  try {
    const [real, root] = await Promise.all([realpath(file), realpath(folder)]);
    if (real.startsWith(root + path.sep)) return real;
    throw new FreeholdError(
      'PERMISSION_DENIED',
      `${file} is a link that leads out of ${folder}; it is not followed`,
      {
        hint: 'install the file itself: freehold install file:PATH',
        detail: { path: file },
      },
    );
  } catch (error) {
    const code = systemErrorCode(error);
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    if (error instanceof FreeholdError) throw error;
    throw new FreeholdError('PERMISSION_DENIED', `cannot read ${file} (${code ?? 'unknown reason'})`, {
      cause: error,
      hint: 'models of the system’s Ollama belong to the user ollama: join its group, or copy them',
    });
  }
}

/** A small file inside a folder. @returns undefined when there is none */
async function readInside(folder: string, file: string, bytesMax: number): Promise<Buffer | undefined> {
  const real = await insidePath(folder, file);
  if (real === undefined) return undefined;
  let handle: FileHandle;
  try {
    // O_NONBLOCK: a named pipe would wait for a writer.
    handle = await open(real, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    throw new FreeholdError('PERMISSION_DENIED', `cannot read ${file} (${systemErrorCode(error)})`, {
      cause: error,
    });
  }
  try {
    if (!(await handle.stat()).isFile()) return undefined;
    return await collectBytes(handle.createReadStream({ autoClose: false }), bytesMax);
  } finally {
    await handle.close();
  }
}
