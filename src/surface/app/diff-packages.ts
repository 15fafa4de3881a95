import { parseReference } from '../../core/base/reference.ts';
import {
  type ChunkMap,
  chunkBlob,
  encodeChunkMap,
  MAPPED_BLOB_BYTES_MIN,
} from '../../core/format/chunk-map.ts';
import { readGguf } from '../../core/format/gguf/gguf-reader.ts';
import type { GgufMetadata } from '../../core/format/gguf/gguf-types.ts';
import {
  CHAT_TEMPLATE_BYTES_MAX,
  type PackageDescriptor,
  weightsOf,
} from '../../core/format/package-descriptor.ts';
import {
  comparePackages,
  type PackageContent,
  type PackageDifference,
  readTensorFacts,
  type TensorFacts,
} from '../../core/format/package-difference.ts';
import { ChunkIndex, planDelta } from '../../features/transfer/delta-plan.ts';
import { storePlace } from '../../io/store/store-place.ts';
import type { Freehold } from './freehold.ts';
import {
  fullReference,
  type InstalledPackage,
  installedPackages,
  resolveInstalled,
} from './installed-packages.ts';
import { verifyInstalled } from './verify-package.ts';

export interface PackageDiff extends PackageDifference {
  readonly before: string;
  readonly after: string;
  /** What a machine that has the former must fetch to get the latter. */
  readonly updateBytes: number;
  /** Of all files of the latter. */
  readonly wholeBytes: number;
}

/**
 * Compares two installed packages, file by file and tensor by tensor. Where the second reference names no variant, the
 * variant of the first is taken if there is one.
 * @throws MODEL_NOT_FOUND, REFERENCE_INVALID, what verification and reading weights throw
 */
export async function diffPackages(
  freehold: Freehold,
  beforeText: string,
  afterText: string,
  signal: AbortSignal,
): Promise<PackageDiff> {
  const packages = installedPackages(await freehold.store.entries());
  const before = resolveInstalled(packages, beforeText, Number.POSITIVE_INFINITY);
  const after = sameVariant(packages, afterText, before);
  const [left, right] = [
    await readContent(freehold, before, signal),
    await readContent(freehold, after, signal),
  ];
  return {
    before: fullReference(before),
    after: fullReference(after),
    ...comparePackages(left, right),
    updateBytes: await updateBytes(freehold, left.descriptor, right.descriptor, signal),
    wholeBytes: right.descriptor.files.reduce((sum, { size }) => sum + size, 0),
  };
}

function sameVariant(
  packages: readonly InstalledPackage[],
  text: string,
  before: InstalledPackage,
): InstalledPackage {
  const chosen = resolveInstalled(packages, text, Number.POSITIVE_INFINITY);
  const reference = parseReference(text);
  if (reference.kind === 'installed' && reference.variant !== undefined) return chosen;
  const wanted = fullReference({ ...chosen, variant: before.variant });
  return packages.find((item) => fullReference(item) === wanted) ?? chosen;
}

async function readContent(
  freehold: Freehold,
  item: InstalledPackage,
  signal: AbortSignal,
): Promise<PackageContent> {
  const { descriptor } = await verifyInstalled(freehold, item);
  const { blobs } = freehold.store;
  const template = descriptor.files.find(({ role }) => role === 'chat-template');
  let metadata: GgufMetadata | undefined;
  const tensors: TensorFacts[] = [];
  for (const { digest, path } of weightsOf(descriptor)) {
    freehold.progress({ kind: 'step-started', label: `read ${fullReference(item)} ${path}` });
    const blob = await blobs.open(digest);
    try {
      const file = await readGguf(blob, path);
      metadata ??= file.metadata;
      tensors.push(...(await readTensorFacts(file, blob, signal)));
    } finally {
      await blob.close();
    }
  }
  return {
    descriptor,
    metadata: metadata ?? new Map(),
    tensors,
    ...(template === undefined
      ? {}
      : { chatTemplate: (await blobs.readAll(template.digest, CHAT_TEMPLATE_BYTES_MAX)).toString('utf8') }),
  };
}

/** By chunk maps, as a pull does it: maps and small files are fetched, of large ones what is not here. */
async function updateBytes(
  freehold: Freehold,
  before: PackageDescriptor,
  after: PackageDescriptor,
  signal: AbortSignal,
): Promise<number> {
  const here = new Set(before.files.map(({ digest }) => digest));
  const missing = after.files.filter(({ digest }) => !here.has(digest));
  const isMapped = ({ role, size }: PackageDescriptor['files'][number]) =>
    role === 'weights' && size >= MAPPED_BLOB_BYTES_MIN;
  let bytes = missing.filter((file) => !isMapped(file)).reduce((sum, { size }) => sum + size, 0);
  const wanted = missing.filter(isMapped);
  if (wanted.length === 0) return bytes;
  const maps = await chunkFiles(freehold, before, signal);
  const index = new ChunkIndex(maps);
  for (const map of await chunkFiles(freehold, { ...after, files: wanted }, signal)) {
    bytes += planDelta(map, index).fetchBytes + encodeChunkMap(map).length;
  }
  return bytes;
}

async function chunkFiles(
  { store }: Freehold,
  descriptor: PackageDescriptor,
  signal: AbortSignal,
): Promise<ChunkMap[]> {
  const place = storePlace(store, descriptor.name);
  const maps: ChunkMap[] = [];
  for (const { digest, size } of weightsOf(descriptor)) {
    const blob = { digest, sizeBytes: size };
    maps.push(await chunkBlob(blob, place.blob(blob, { startBytes: 0 }, signal)));
  }
  return maps;
}
