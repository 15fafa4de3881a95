import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { Digest } from '../../src/core/base/digest.ts';
import { ANNOTATION, encodeJson, MEDIA_TYPE, type OciDescriptor } from '../../src/core/format/oci.ts';
import { openStore, type Store } from '../../src/io/store/store.ts';

/** Runs work with a store in a temporary folder. Short lock timeout: a test that waits in vain fails soon. */
export async function withStore(work: (store: Store) => Promise<void>, lockTimeoutMs = 10_000) {
  await withFolder(async (folder) => work(await openStore(path.join(folder, 'store'), { lockTimeoutMs })));
}

export async function withFolder(work: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'freehold-store-'));
  try {
    await work(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

export interface SmallPackage {
  /** The descriptor to put into `index.json`. */
  readonly entry: OciDescriptor;
  readonly manifest: Digest;
  readonly config: Digest;
  readonly layers: readonly Digest[];
}

/** Writes a manifest with a config and one layer for each text, and returns what an entry needs; no entry yet. */
export async function writePackage(
  store: Store,
  name: string,
  files: Readonly<Record<string, string>>,
  subject?: OciDescriptor,
): Promise<SmallPackage> {
  const config = await writeBlob(store, '{}', MEDIA_TYPE.modelConfig);
  const layers: OciDescriptor[] = [];
  for (const [file, text] of Object.entries(files)) {
    layers.push({
      ...(await writeBlob(store, text, MEDIA_TYPE.doc)),
      annotations: { [ANNOTATION.title]: file },
    });
  }
  const manifest = { schemaVersion: 2, mediaType: MEDIA_TYPE.manifest, config, layers, subject };
  const descriptor = await writeBlob(store, encodeJson(manifest), MEDIA_TYPE.manifest);
  return {
    entry: { ...descriptor, annotations: { [ANNOTATION.refName]: name } },
    manifest: descriptor.digest,
    config: config.digest,
    layers: layers.map((layer) => layer.digest),
  };
}

/** An image index over packages, as a version is. */
export async function writeVersion(
  store: Store,
  name: string,
  variants: readonly SmallPackage[],
): Promise<OciDescriptor> {
  const manifests = variants.map(({ entry }) => entry);
  const bytes = encodeJson({ schemaVersion: 2, mediaType: MEDIA_TYPE.index, manifests });
  return {
    ...(await writeBlob(store, bytes, MEDIA_TYPE.index)),
    annotations: { [ANNOTATION.refName]: name },
  };
}

/** Writes a package and its entry within one lease, as an install does. */
export async function install(store: Store, name: string, files: Readonly<Record<string, string>>) {
  return store.withLease(async () => {
    const made = await writePackage(store, name, files);
    await store.updateEntries((entries) => [...withoutEntry(entries, name), made.entry]);
    return made;
  });
}

export function withoutEntry(entries: readonly OciDescriptor[], name: string): readonly OciDescriptor[] {
  return entries.filter((entry) => entry.annotations?.[ANNOTATION.refName] !== name);
}

async function writeBlob(store: Store, bytes: string | Buffer, mediaType: string): Promise<OciDescriptor> {
  const { digest, sizeBytes } = await store.blobs.write(Buffer.from(bytes), { digest: Digest.of(bytes) });
  return { mediaType, digest, size: sizeBytes };
}

export function blobFile(store: Store, digest: Digest): string {
  return path.join(store.folder, 'blobs', 'sha256', Digest.hex(digest));
}
