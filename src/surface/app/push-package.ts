import { FreeholdError } from '../../core/base/errors.ts';
import { shortName } from '../../core/base/ids.ts';
import { parseReference } from '../../core/base/reference.ts';
import { parseTag } from '../../core/base/registry-reference.ts';
import { SIGNATURE_PATHS } from '../../core/crypto/model-signing.ts';
import { parseArtifactDocument } from '../../core/format/artifact-documents.ts';
import type { ArtifactPlace, ManifestDocument } from '../../core/format/artifact-place.ts';
import { encodeVersionIndex } from '../../core/format/modelpack.ts';
import { ANNOTATION, MEDIA_TYPE, type OciDescriptor } from '../../core/format/oci.ts';
import { readPackage } from '../../core/format/package-verification.ts';
import {
  artifactManifest,
  BUNDLE_ARTIFACT_TYPE,
  EMPTY_CONFIG_BLOB,
  EMPTY_CONFIG_BYTES,
} from '../../core/format/referrer.ts';
import { documentVersion } from '../../features/transfer/artifact-versions.ts';
import { type CopyReport, copyArtifact } from '../../features/transfer/copy-artifact.ts';
import { makeChunkMaps } from '../../features/transfer/delta-maps.ts';
import { storePlace } from '../../io/store/store-place.ts';
import type { Freehold } from './freehold.ts';
import {
  fullReference,
  type InstalledPackage,
  installedPackages,
  selectInstalled,
} from './installed-packages.ts';
import { publicEntry } from './package-writer.ts';

export interface PushOptions {
  readonly signal: AbortSignal;
  /** Put other content in the place of what the registry has under this version. */
  readonly isReplacing?: boolean;
  /** Further tags for the version, for people: `latest`. */
  readonly tags?: readonly string[];
  readonly isDryRun?: boolean;
  /** Leaves out the chunk maps, without which updates are pulled whole. */
  readonly isWithoutChunkMaps?: boolean;
}

export interface PushReport {
  readonly name: string;
  readonly version: string;
  readonly variants: readonly {
    readonly variant: string;
    readonly tag: string;
    readonly manifestDigest: string;
  }[];
  readonly indexDigest: string;
  /** Of the version: its own, and those that were asked for. */
  readonly tags: readonly string[];
  readonly writtenBytes: number;
  /** Not sent, since the registry had them. */
  readonly presentBytes: number;
}

/** Another publisher may write the same index at the same moment; each lost race means that one of them got further. */
const INDEX_ATTEMPTS_MAX = 10;

/**
 * Pushes the variants of one version that a reference means: their files, signatures and chunk maps, the variants' tags
 * (`1.4.0-q4_0`), then the version's image index under its tag (`1.4.0`), with the variants that others have pushed.
 * @throws MODEL_NOT_FOUND, SIGNATURE_MISSING, ALREADY_EXISTS when the version has other content there, NETWORK, …
 */
export async function pushPackage(
  freehold: Freehold,
  text: string,
  place: ArtifactPlace,
  repository: string,
  options: PushOptions,
): Promise<PushReport> {
  const chosen = await packagesToPush(freehold, text);
  const [{ name, version }] = chosen;
  for (const tag of options.tags ?? []) requireFreeTag(tag);
  if (shortName(name) !== shortName(repository)) {
    throw new FreeholdError('NAME_INVALID', `${name} cannot be pushed to a repository named ${repository}`, {
      hint: `the last part of the repository must be the package's: …/${shortName(name)}`,
    });
  }
  for (const item of chosen) await requirePushable(freehold, item, place, options);
  const report = { writtenBytes: 0, presentBytes: 0 };
  for (const item of chosen) {
    const copied = await pushVariant(freehold, item, place, options);
    report.writtenBytes += copied.writtenBytes;
    report.presentBytes += copied.presentBytes;
  }
  const index = await pushIndex(place, version, chosen, options);
  return {
    name,
    version,
    variants: chosen.map((item) => ({
      variant: item.variant,
      tag: variantTag(item),
      manifestDigest: item.manifestDigest,
    })),
    indexDigest: index.digest,
    tags: [version, ...(options.tags ?? [])],
    ...report,
  };
}

/** The tag of one variant, as `referenceName` has it behind the name. */
const variantTag = ({ version, variant }: InstalledPackage) => `${version}-${variant}`;

/** Tags that mean something to Freehold: whole versions and their variants, channels, lists of referrers. */
const RESERVED_TAG = /^(?:\d+\.\d+\.\d+.*|freehold-.*|sha256-.*)$/;

/** @throws REFERENCE_INVALID for no tag, and for one that is not the user's to give */
function requireFreeTag(tag: string): void {
  if (!RESERVED_TAG.test(parseTag(tag))) return;
  throw new FreeholdError(
    'REFERENCE_INVALID',
    `the tag ${tag} is not free: Freehold reads versions, channels and referrers there`,
    {
      hint: 'a name that people read: latest, stable, ward7',
    },
  );
}

/** All variants of the newest version that is meant and not held back. */
async function packagesToPush(
  { store }: Freehold,
  text: string,
): Promise<[InstalledPackage, ...InstalledPackage[]]> {
  const packages = selectInstalled(installedPackages(await store.entries()), parseReference(text), text);
  const newest = packages.find(({ held }) => held === undefined) ?? packages[0];
  const [first, ...others] = packages.filter(({ version }) => version === newest?.version);
  if (first === undefined) throw new FreeholdError('MODEL_NOT_FOUND', `${text} is not installed`);
  return [first, ...others];
}

/** @throws SIGNATURE_MISSING, ALREADY_EXISTS, and what reading a package throws */
async function requirePushable(
  { store }: Freehold,
  item: InstalledPackage,
  place: ArtifactPlace,
  { signal, isReplacing = false }: PushOptions,
): Promise<void> {
  const { signatures } = await readPackage(store.blobs, item.manifestDigest);
  if (signatures.length === 0) {
    throw new FreeholdError(
      'SIGNATURE_MISSING',
      `${fullReference(item)} is not signed; nobody could install it`,
      {
        hint: `freehold sign ${item.name}@${item.version} --key NAME`,
      },
    );
  }
  const there = await place.manifest({ tag: variantTag(item) }, signal);
  if (there !== undefined && documentVersion(there) !== item.version) {
    // `1.0.0-edge` may be the version 1.0.0-edge, or the variant edge of 1.0.0.
    throw new FreeholdError(
      'ALREADY_EXISTS',
      `the tag ${variantTag(item)} of ${place.label} is another version's`,
      {
        hint: 'name the variant or the prerelease differently',
      },
    );
  }
  if (!isReplacing) requireSameVariants(place, await readIndex(place, item.version, signal), [item]);
}

/** @throws ALREADY_EXISTS when a place lists one of the variants with other content */
function requireSameVariants(
  place: ArtifactPlace,
  listed: readonly OciDescriptor[],
  items: readonly InstalledPackage[],
): void {
  for (const item of items) {
    const entry = listed.find((candidate) => isVariant(candidate, item));
    const content = entry?.annotations?.[ANNOTATION.contentDigest];
    if (content !== undefined && content !== item.contentDigest) throw otherContent(place, item, content);
  }
}

function otherContent(place: ArtifactPlace, item: InstalledPackage, content: string): FreeholdError {
  return new FreeholdError('ALREADY_EXISTS', `${place.label} has ${fullReference(item)} with other content`, {
    hint: 'raise the version; --replace puts this content in its place, and locks that pin the other one will refuse it',
    detail: { existing: content, wanted: item.contentDigest },
  });
}

async function pushVariant(
  freehold: Freehold,
  item: InstalledPackage,
  place: ArtifactPlace,
  options: PushOptions,
): Promise<CopyReport> {
  const { store, progress } = freehold;
  const { signal, isDryRun = false, isWithoutChunkMaps = false } = options;
  const source = storePlace(store, item.name);
  const manifest = await source.manifest({ digest: item.manifestDigest }, signal);
  if (manifest === undefined)
    throw new FreeholdError('FILE_MISSING', `${fullReference(item)} lost its manifest`);
  const copied = await copyArtifact([source], place, manifest, {
    signal,
    progress,
    label: fullReference(item),
    withReferrers: false,
    isDryRun,
  });
  if (!isDryRun) {
    // Once more: sending may have taken hours, in which another machine pushed.
    await requirePushable(freehold, item, place, options);
    await place.putManifest(manifest, variantTag(item), signal);
    await pushSignatureReferrers(place, manifest, signal);
    if (!isWithoutChunkMaps) await pushChunkMaps(source, place, manifest, signal);
  }
  return copied;
}

/** For tools that look for signatures among the referrers; the bundles lie there already, as layers. */
async function pushSignatureReferrers(
  place: ArtifactPlace,
  manifest: ManifestDocument,
  signal: AbortSignal,
): Promise<void> {
  const { layers } = parseArtifactDocument(manifest.bytes, manifest.digest);
  for (const { digest, size, annotations } of layers) {
    if (!SIGNATURE_PATHS.includes(annotations?.[ANNOTATION.title] ?? '')) continue;
    const layer = { mediaType: BUNDLE_ARTIFACT_TYPE, digest, size };
    await putReferrer(place, artifactManifest(BUNDLE_ARTIFACT_TYPE, [layer], { subject: manifest }), signal);
  }
}

async function pushChunkMaps(
  source: ArtifactPlace,
  place: ArtifactPlace,
  manifest: ManifestDocument,
  signal: AbortSignal,
): Promise<void> {
  const maps = await makeChunkMaps(source, manifest, signal);
  if (maps === undefined) return;
  for (const { blob, bytes } of maps.blobs) await putBytes(place, blob, bytes, signal);
  await putReferrer(place, maps.manifest, signal);
}

async function putReferrer(
  place: ArtifactPlace,
  referrer: ManifestDocument,
  signal: AbortSignal,
): Promise<void> {
  if (await place.hasManifest(referrer.digest, signal)) return;
  await putBytes(place, EMPTY_CONFIG_BLOB, EMPTY_CONFIG_BYTES, signal);
  await place.putManifest(referrer, undefined, signal);
}

async function putBytes(
  place: ArtifactPlace,
  blob: { digest: typeof EMPTY_CONFIG_BLOB.digest; sizeBytes: number },
  bytes: Buffer,
  signal: AbortSignal,
): Promise<void> {
  const from = async function* (startBytes: number) {
    yield bytes.subarray(startBytes);
  };
  await place.putBlob(blob, from, { signal });
}

/**
 * Writes the version's image index: our variants, and those that others pushed. A registry has no compare-and-swap, so it
 * is read again after it was written, and written again where somebody came between.
 */
async function pushIndex(
  place: ArtifactPlace,
  version: string,
  chosen: readonly InstalledPackage[],
  { signal, tags = [], isDryRun = false, isReplacing = false }: PushOptions,
): Promise<ManifestDocument> {
  for (let attempt = 0; attempt < INDEX_ATTEMPTS_MAX; attempt++) {
    const there = await readIndex(place, version, signal);
    if (!isReplacing) requireSameVariants(place, there, chosen);
    const others = there.filter((entry) => !chosen.some((item) => isVariant(entry, item)));
    const encoded = encodeVersionIndex([...others, ...chosen.map(({ entry }) => publicEntry(entry))]);
    const document = { ...encoded, mediaType: MEDIA_TYPE.index };
    if (isDryRun) return document;
    for (const tag of [version, ...tags]) await place.putManifest(document, tag, signal);
    const now = await readIndex(place, version, signal);
    if (chosen.every((item) => now.some((entry) => entry.digest === item.manifestDigest))) return document;
  }
  throw new FreeholdError('BUSY', `others keep writing the version ${version} of ${place.label}`);
}

/** The variants that a place lists for a version; none when there is no such version. @throws ALREADY_EXISTS */
async function readIndex(
  place: ArtifactPlace,
  version: string,
  signal: AbortSignal,
): Promise<readonly OciDescriptor[]> {
  const document = await place.manifest({ tag: version }, signal);
  if (document === undefined) return [];
  const { kind, manifests } = parseArtifactDocument(document.bytes, document.digest);
  if (kind === 'index') return manifests;
  throw new FreeholdError(
    'ALREADY_EXISTS',
    `the tag ${version} of ${place.label} is not a version of a package`,
    {
      hint: 'push to a repository of its own, or remove that tag',
    },
  );
}

const isVariant = ({ annotations }: OciDescriptor, { variant }: InstalledPackage) =>
  annotations?.[ANNOTATION.variant] === variant;
