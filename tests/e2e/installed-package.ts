import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { Digest } from '../../src/core/base/digest.ts';
import { FreeholdError } from '../../src/core/base/errors.ts';
import { layerPath, MEDIA_TYPE } from '../../src/core/format/oci.ts';
import { readPackage } from '../../src/core/format/package-verification.ts';
import { createFakeEngine } from '../../src/io/engine/fake/fake-engine.ts';
import { type Freehold, openFreehold } from '../../src/surface/app/freehold.ts';
import { installedPackages } from '../../src/surface/app/installed-packages.ts';
import { createModelHost } from '../../src/surface/app/model-host.ts';

/** One file on the disk that an installed package depends on. */
export interface PackagePart {
  /** What a refusal must name. */
  readonly name: string;
  readonly path: string;
  readonly bytes: Buffer;
}

/** Every file that is there for an installed package: its blobs, and those that make a store of them. */
export async function partsOf(freehold: Freehold, name = 'acme/tiny'): Promise<PackagePart[]> {
  const { store } = freehold;
  const entries = await store.entries();
  const item = installedPackages(entries).find((candidate) => candidate.name === name);
  const index = entries.find(
    (entry) => entry.mediaType === MEDIA_TYPE.index && entry.annotations?.['org.freehold.name'] === name,
  );
  if (item === undefined || index === undefined) throw new Error(`${name} is not installed`);
  const { manifest } = await readPackage(store.blobs, item.manifestDigest);
  const blobs: [string, Digest][] = [
    ['the image index', index.digest],
    ['the manifest', item.manifestDigest],
    ['the config', manifest.config.digest],
    ...manifest.layers.map((layer): [string, Digest] => [layerPath(layer) ?? '', layer.digest]),
  ];
  const files: [string, string][] = [
    ...blobs.map(([title, digest]): [string, string] => [title, blobPath(freehold, digest)]),
    ['index.json', path.join(store.folder, 'index.json')],
    ['oci-layout', path.join(store.folder, 'oci-layout')],
  ];
  return Promise.all(
    files.map(async ([title, file]) => ({ name: title, path: file, bytes: await readFile(file) })),
  );
}

export function blobPath({ store }: Freehold, digest: string): string {
  return path.join(store.folder, 'blobs', 'sha256', digest.slice('sha256:'.length));
}

/**
 * What `run` does before the first token: opens the home, resolves, verifies, loads. Its refusal, or undefined when it
 * would answer.
 */
export async function refusalOf(home: string, reference = 'acme/tiny'): Promise<FreeholdError | undefined> {
  try {
    const host = createModelHost(await openFreehold({ env: {}, home }), { engine: createFakeEngine() });
    await host.use(reference).finally(() => host.close());
    return undefined;
  } catch (error) {
    if (error instanceof FreeholdError) return error;
    throw error;
  }
}

/** Runs work with other bytes in the place of a file, and puts the right ones back. */
export async function withBytes<T>(part: PackagePart, bytes: Uint8Array, work: () => Promise<T>): Promise<T> {
  await writeFile(part.path, bytes);
  try {
    return await work();
  } finally {
    await writeFile(part.path, part.bytes);
  }
}

export function flipped(bytes: Buffer, offset: number, mask: number): Buffer {
  const copy = Buffer.from(bytes);
  copy[offset] = (copy[offset] ?? 0) ^ mask;
  return copy;
}
