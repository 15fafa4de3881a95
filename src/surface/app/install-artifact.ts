import { collectBytes } from '../../core/base/byte-source.ts';
import { FreeholdError, namingFile } from '../../core/base/errors.ts';
import { BUNDLE_BYTES_MAX, SIGNATURE_PATHS } from '../../core/crypto/model-signing.ts';
import type { TrustPolicy } from '../../core/crypto/trust-policy.ts';
import { parseArtifactDocument } from '../../core/format/artifact-documents.ts';
import type { ArtifactSource, ManifestDocument } from '../../core/format/artifact-place.ts';
import {
  CONFIG_BYTES_MAX,
  layerPath,
  type ModelManifest,
  type OciDescriptor,
  parseModelManifest,
} from '../../core/format/oci.ts';
import {
  DESCRIPTOR_BYTES_MAX,
  DESCRIPTOR_PATH,
  type PackageFile,
} from '../../core/format/package-descriptor.ts';
import { type VerifiedPackage, verifyPackage } from '../../core/format/package-verification.ts';
import { BLOBS_AT_ONCE } from '../../features/transfer/copy-artifact.ts';
import { keepChunkMaps } from '../../features/transfer/delta-maps.ts';
import { fromAny } from '../../features/transfer/failover.ts';
import { inParallel } from '../../features/transfer/parallel.ts';
import { memoryBlobStore } from '../../io/store/memory-blob-store.ts';
import { storePlace } from '../../io/store/store-place.ts';
import { type ExpectedPackage, requireExpected } from './expected-package.ts';
import { deltaBases, FileDownloads } from './file-downloads.ts';
import type { Freehold } from './freehold.ts';
import { type AddOptions, type InstallResult, installVerified } from './install-package.ts';

export interface ArtifactInstallOptions extends AddOptions {
  readonly signal: AbortSignal;
  readonly expect?: ExpectedPackage | undefined;
  /** Pulls every file whole, also where an earlier version has most of it. */
  readonly isWithoutDelta?: boolean;
  /** Under which the signature is verified before it is installed; default: the home's. */
  readonly trust?: TrustPolicy;
}

/** An install with what it cost. */
export interface ArtifactInstallResult extends InstallResult {
  /** Of the files: what came from the source, and what was put together of earlier versions or was there already. */
  readonly transfer: { readonly fetchedBytes: number; readonly reusedBytes: number };
}

/** A package in a registry, layout or archive: its signature verified, its files not yet read. */
export interface PackageArtifact {
  readonly verified: VerifiedPackage;
  /** `freehold.json` and the bundles. */
  readonly documents: readonly Buffer[];
}

/** Whether a manifest is a package of ours, by what it lists; whether it is a good one, verification says. */
export function isPackageManifest(manifest: ManifestDocument): boolean {
  const { layers } = parseArtifactDocument(manifest.bytes, manifest.digest);
  return layers.some((layer) => layerPath(layer) === DESCRIPTOR_PATH);
}

/**
 * Reads the small documents of a package and verifies its signature under the home's trust policy. Of the weights not a
 * byte is read.
 * @throws SIGNATURE_MISSING, SIGNER_UNTRUSTED, SIGNATURE_INVALID, PACKAGE_INVALID, MANIFEST_INVALID, NETWORK, …
 */
export async function readPackageArtifact(
  freehold: Freehold,
  sources: readonly ArtifactSource[],
  manifest: ManifestDocument,
  { signal, expect = {}, trust }: Pick<ArtifactInstallOptions, 'signal' | 'expect' | 'trust'>,
): Promise<PackageArtifact> {
  const blobs = memoryBlobStore();
  await blobs.write(manifest.bytes, { digest: manifest.digest });
  const parsed = parseModelManifest(manifest.bytes);
  const documents: Buffer[] = [];
  for (const [layer, bytesMax] of documentLayers(parsed)) {
    const bytes = await readSmallBlob(freehold, sources, layer, bytesMax, signal);
    await blobs.write(bytes);
    if (layer !== parsed.config) documents.push(bytes);
  }
  const verified = await verifyPackage(blobs, manifest.digest, trust ?? (await freehold.home.trust.load()));
  requireExpected(verified, expect);
  return { verified, documents };
}

/**
 * Installs a variant from wherever it lies: the signature is verified before a byte of the weights is asked for, every
 * file is hashed while it streams, and only a complete package becomes visible.
 * @throws what `readPackageArtifact` throws; DIGEST_MISMATCH, SOURCES_EXHAUSTED, DISK_FULL, ALREADY_EXISTS, CANCELLED
 */
export async function installFromSource(
  freehold: Freehold,
  sources: readonly ArtifactSource[],
  manifest: ManifestDocument,
  options: ArtifactInstallOptions,
): Promise<ArtifactInstallResult> {
  const artifact = await readPackageArtifact(freehold, sources, manifest, options);
  return installPackageArtifact(freehold, sources, artifact, options);
}

/** The same of a package whose documents were read. */
export async function installPackageArtifact(
  freehold: Freehold,
  sources: readonly ArtifactSource[],
  { verified, documents }: PackageArtifact,
  options: ArtifactInstallOptions,
): Promise<ArtifactInstallResult> {
  await requireRoom(freehold, verified.descriptor.files);
  const bases = options.isWithoutDelta === true ? [] : await deltaBases(freehold, verified, options.signal);
  const downloads = new FileDownloads(freehold, sources, verified, bases);
  const bring = (files: readonly PackageFile[]) =>
    inParallel(files, BLOBS_AT_ONCE, options.signal, (file, signal) => downloads.bring(file, signal));
  const installed = await installVerified(freehold, { verified, documents, bring }, options);
  const place = storePlace(freehold.store, verified.descriptor.name);
  await keepChunkMaps(sources, place, verified.manifestDigest, options.signal);
  return { ...installed, transfer: downloads.transfer };
}

/** The documents that verification reads, each with what it may have at most. */
function documentLayers(manifest: ModelManifest): [OciDescriptor, number][] {
  const small = manifest.layers.flatMap((layer): [OciDescriptor, number][] => {
    const path = layerPath(layer) ?? '';
    if (path === DESCRIPTOR_PATH) return [[layer, DESCRIPTOR_BYTES_MAX]];
    return SIGNATURE_PATHS.includes(path) ? [[layer, BUNDLE_BYTES_MAX]] : [];
  });
  return [[manifest.config, CONFIG_BYTES_MAX], ...small];
}

/** A blob in memory, hashed. @throws SIZE_MISMATCH when it is larger than allowed, DIGEST_MISMATCH */
export async function readSmallBlob(
  { progress }: Freehold,
  sources: readonly ArtifactSource[],
  layer: OciDescriptor,
  bytesMax: number,
  signal: AbortSignal,
): Promise<Buffer> {
  const name = layerPath(layer) ?? layer.digest;
  if (layer.size > bytesMax) {
    throw new FreeholdError(
      'SIZE_MISMATCH',
      `${name} has ${layer.size} bytes; at most ${bytesMax} are read`,
      {
        detail: { file: name, expected: bytesMax, actual: layer.size },
      },
    );
  }
  const blob = { digest: layer.digest, sizeBytes: layer.size };
  return fromAny(sources, name, { signal, progress }, async (source) => {
    const held = memoryBlobStore();
    try {
      const bytes = await collectBytes(source.blob(blob, { startBytes: 0 }, signal), layer.size);
      await held.write(bytes, blob);
      return bytes;
    } catch (error) {
      throw namingFile(error, name);
    }
  });
}

/** What is there already, in whole or in part, may be counted twice: this only spares a download that cannot end well. */
async function requireRoom({ store }: Freehold, files: readonly PackageFile[]): Promise<void> {
  let neededBytes = 0;
  for (const file of files) {
    if (await store.blobs.has(file.digest)) continue;
    neededBytes += file.size - (await store.partialBytes(file.digest));
  }
  const freeBytes = await store.freeBytes();
  if (freeBytes === undefined || neededBytes <= freeBytes) return;
  throw new FreeholdError('DISK_FULL', `${neededBytes} bytes are still to come, and ${freeBytes} are free`, {
    hint: 'free room, or move the home to a larger disk (FREEHOLD_HOME); freehold gc removes what no package uses',
    detail: { neededBytes, freeBytes },
  });
}
