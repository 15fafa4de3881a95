import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip, createZstdDecompress } from 'node:zlib';
import { FreeholdError } from '../../core/base/errors.ts';
import type { BlobReference } from '../../core/format/artifact-place.ts';
import type { ForeignArchive, ForeignWeights } from '../../core/format/foreign-artifact.ts';
import { chooseGguf } from '../../core/format/gguf/gguf-choice.ts';
import { tarMembers } from '../../core/format/tar-members.ts';
import type { Freehold } from './freehold.ts';
import type { ForeignPlace } from './install-foreign.ts';
import type { ImportedBytes } from './install-gguf.ts';

/** Weights shrink by a tenth, zeros a thousandfold: whatever unpacks to more than this is no model but a bomb. */
const UNPACKED_RATIO_MAX = 16;
/** An archive of a few kilobytes may hold small files that shrink well. */
const UNPACKED_BYTES_MIN = 64 << 20;
/** A model with its tokenizer and documents has a few dozen. */
const MEMBERS_MAX = 10_000;
const READ_BYTES = 1 << 20;

/**
 * Takes the one GGUF model out of tar archives. Each archive is downloaded and hashed as a whole before a byte of it is
 * unpacked; nothing is written to a path: members become blobs, under their own digests.
 * @throws ARCHIVE_INVALID for a bomb or what is no archive, NOT_FOUND and REFERENCE_INVALID as `chooseGguf`
 */
export async function unpackGguf(
  freehold: Freehold,
  weights: Extract<ForeignWeights, { kind: 'archives' }>,
  place: ForeignPlace,
  signal: AbortSignal,
): Promise<ImportedBytes[]> {
  const members = new Map<string, BlobReference>();
  for (const archive of weights.archives) {
    const brought = await place.bring(archive.layer);
    if (brought.kind !== 'stored') throw new FreeholdError('INTERNAL', 'an archive that is not in the store');
    for (const [name, blob] of await unpackMembers(freehold, archive, brought, place.label, signal)) {
      members.set(name, blob);
    }
  }
  const names = [...members.keys()];
  const path = weights.path?.replace(/^(?:\.?\/)+/, '');
  const wanted =
    path !== undefined && names.includes(path)
      ? ({ kind: 'file', path } as const)
      : ({ kind: 'only' } as const);
  const { files } = chooseGguf(names, wanted, place.label);
  return files.flatMap((name): ImportedBytes[] => {
    const blob = members.get(name);
    return blob === undefined ? [] : [{ kind: 'stored', ...blob }];
  });
}

async function unpackMembers(
  { store, progress }: Freehold,
  { layer, compression }: ForeignArchive,
  blob: BlobReference,
  label: string,
  signal: AbortSignal,
): Promise<Map<string, BlobReference>> {
  const found = new Map<string, BlobReference>();
  const source = await store.blobs.open(blob.digest);
  const step = `unpack ${label}`;
  progress({ kind: 'step-started', label: step });
  try {
    const limits = {
      unpackedBytesMax: Math.max(UNPACKED_BYTES_MIN, layer.size * UNPACKED_RATIO_MAX),
      membersMax: MEMBERS_MAX,
    };
    const packed = piecesOf(source, signal);
    const bytes = compression === 'none' ? packed : unpacked(packed, compression, label, signal);
    for await (const { name, sizeBytes, data } of tarMembers(bytes, limits, label)) {
      const plain = name.replace(/^(?:\.\/)+/, '');
      if (!/\.gguf$/i.test(plain)) continue;
      if (found.has(plain))
        throw new FreeholdError('ARCHIVE_INVALID', `${label}: ${JSON.stringify(plain)} twice`);
      found.set(plain, await store.blobs.write(data, { sizeBytes }));
    }
    return found;
  } finally {
    progress({ kind: 'step-finished', label: step });
    await source.close();
  }
}

async function* piecesOf(
  source: { readonly sizeBytes: number; read(offset: number, length: number): Promise<Uint8Array> },
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  for (let offset = 0; offset < source.sizeBytes; offset += READ_BYTES) {
    signal.throwIfAborted();
    yield await source.read(offset, Math.min(READ_BYTES, source.sizeBytes - offset));
  }
}

async function* unpacked(
  packed: AsyncIterable<Uint8Array>,
  compression: 'gzip' | 'zstd',
  label: string,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const unpacker = compression === 'gzip' ? createGunzip() : createZstdDecompress();
  const flow = pipeline(Readable.from(packed), unpacker);
  flow.catch(() => {});
  try {
    for await (const piece of unpacker) yield piece as Uint8Array;
    await flow;
  } catch (error) {
    if (error instanceof FreeholdError || signal.aborted) throw error;
    throw new FreeholdError('ARCHIVE_INVALID', `${label}: the archive cannot be unpacked`, { cause: error });
  } finally {
    // Whoever reads may have had enough.
    unpacker.destroy();
    await flow.catch(() => {});
  }
}
