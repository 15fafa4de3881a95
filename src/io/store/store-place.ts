import { streamBytes } from '../../core/base/byte-source.ts';
import type { Digest } from '../../core/base/digest.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import { quoted } from '../../core/base/ids.ts';
import { DOCUMENT_BYTES_MAX, documentMediaType } from '../../core/format/artifact-documents.ts';
import type {
  ArtifactPlace,
  BlobRange,
  BlobReference,
  ManifestDocument,
  ManifestReference,
} from '../../core/format/artifact-place.ts';
import { entryName } from './closure.ts';
import type { Store } from './store.ts';

/**
 * What the store has of one package, as a registry's repository would show it: a tag is what follows `NAME:`. Documents
 * can be put, but a tag cannot: what is installed is decided elsewhere, after verification.
 */
export function storePlace(store: Store, name: string): ArtifactPlace {
  const prefix = `${name}:`;
  return {
    label: `the store's ${name}`,
    async manifest(reference) {
      const digest = await digestOf(store, prefix, reference);
      if (digest === undefined || !(await store.blobs.has(digest))) return undefined;
      const bytes = await store.blobs.readAll(digest, DOCUMENT_BYTES_MAX);
      return { bytes, digest, mediaType: documentMediaType(bytes) } satisfies ManifestDocument;
    },
    blob: (blob, range, signal) => readBlob(store, blob, range, signal),
    async tags() {
      const names = (await store.entries()).map(entryName);
      return names.filter((item) => item.startsWith(prefix)).map((item) => item.slice(prefix.length));
    },
    referrers: (subject) => store.referrers(subject),
    hasBlob: ({ digest }) => store.blobs.has(digest),
    hasManifest: (digest) => store.blobs.has(digest),
    putBlob: (blob, open, options) => store.download(blob, open, options),
    async putManifest({ bytes, digest }, tag) {
      if (tag !== undefined) throw new FreeholdError('INTERNAL', `the store takes no tag (${tag})`);
      await store.blobs.write(bytes, { digest });
    },
  };
}

async function digestOf(
  store: Store,
  prefix: string,
  reference: ManifestReference,
): Promise<Digest | undefined> {
  if ('digest' in reference) return reference.digest;
  return (await store.entries()).find((entry) => entryName(entry) === prefix + reference.tag)?.digest;
}

async function* readBlob(
  store: Store,
  blob: BlobReference,
  { startBytes, endBytes = blob.sizeBytes }: BlobRange,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const source = await store.blobs.open(blob.digest);
  try {
    if (source.sizeBytes !== blob.sizeBytes || endBytes > blob.sizeBytes || startBytes > endBytes) {
      throw new FreeholdError(
        'SIZE_MISMATCH',
        `${quoted(blob.digest)} has ${source.sizeBytes} bytes instead of ${blob.sizeBytes}`,
      );
    }
    yield* streamBytes(source, startBytes, endBytes, signal);
  } finally {
    await source.close();
  }
}
