import { FreeholdError, toFreeholdError } from '../../core/base/errors.ts';
import { formatFingerprint } from '../../core/crypto/keys.ts';
import type { ArtifactSource } from '../../core/format/artifact-place.ts';
import { BLOBS_AT_ONCE, copyArtifact } from '../../features/transfer/copy-artifact.ts';
import { inParallel } from '../../features/transfer/parallel.ts';
import { CHANNELS_TAG } from '../../features/updates/channel-artifact.ts';
import { HELD_REASONS, type HeldReason } from '../../features/updates/update-offer.ts';
import { type Archive, openArchive } from '../../io/archive/archive.ts';
import { requireLicenseAccepted } from '../../io/fetch/catalog.ts';
import type { CatalogEntry } from '../../io/fetch/catalog-entry.ts';
import { storePlace } from '../../io/store/store-place.ts';
import {
  type ApprovedKeys,
  type ArchivePackage,
  readArchivePackages,
  referenceOf,
  requireNoneRefused,
} from './archive-packages.ts';
import { refreshChannels } from './channel-refresh.ts';
import { FileDownloads } from './file-downloads.ts';
import type { Freehold } from './freehold.ts';
import { installFromSource } from './install-artifact.ts';
import { catalogFacts } from './install-catalog.ts';
import { installGguf } from './install-gguf.ts';
import {
  type AddOptions,
  type InstallResult,
  installVerified,
  type PackageToInstall,
} from './install-package.ts';
import { HELD_ANNOTATION, installedPackages } from './installed-packages.ts';
import { writeSigned } from './sign-package.ts';
import { knownVersions } from './version-activation.ts';

export interface RestoreArchiveOptions {
  readonly signal: AbortSignal;
  /** Keys of the archive that the user compared with their owners. */
  readonly approved: ApprovedKeys;
  readonly isLicenseAccepted?: boolean;
}

export interface RestoredArchive {
  readonly packages: readonly {
    readonly reference: string;
    readonly isNew: boolean;
    /** `signed again`: with this home's own key, since the signature of another home's means nothing here. */
    readonly how: 'as signed' | 'signed again';
    /** Why a bare name does not mean it. */
    readonly held?: HeldReason;
  }[];
  /** Added to trust.yaml. */
  readonly trusted: readonly { readonly pattern: string; readonly fingerprint: string }[];
  /** What of channels could not be taken over, and why. */
  readonly remarks: readonly string[];
}

/**
 * Installs everything that an archive holds. All packages are judged before anything is written, each is verified before
 * it becomes visible, and what a killed run brought is not brought again.
 * @throws ARCHIVE_INVALID, SIGNER_UNTRUSTED listing the keys to compare, NOT_FOUND naming the earlier archive that is
 *   needed first, LICENSE_NOT_ACCEPTED, DISK_FULL, ALREADY_EXISTS
 */
export async function restoreArchive(
  freehold: Freehold,
  file: string,
  options: RestoreArchiveOptions,
): Promise<RestoredArchive> {
  const { approved, signal } = options;
  const archive = await openArchive(file, signal);
  try {
    const packages = await readArchivePackages(freehold, archive, approved, signal);
    if (packages.length === 0) {
      throw new FreeholdError('NOT_FOUND', `${archive.layout.label} holds no package`, {
        hint: 'freehold mirror copies other artifacts',
      });
    }
    requireNoneRefused(archive.layout.label, packages);
    await requireNothingMissing(freehold, archive, packages);
    for (const item of packages) {
      if (item.kind === 'pinned') requireLicenseAccepted(item.entry, options.isLicenseAccepted === true);
    }
    return await restorePackages(freehold, archive, packages, options);
  } catch (error) {
    throw await archive.explain(error);
  } finally {
    await archive.close();
  }
}

async function restorePackages(
  freehold: Freehold,
  archive: Archive,
  packages: readonly ArchivePackage[],
  options: RestoreArchiveOptions,
): Promise<RestoredArchive> {
  const { signal } = options;
  const trusted = await trustNewKeys(freehold, packages);
  const source = archive.source();
  const restored = [];
  for (const item of packages) {
    signal.throwIfAborted();
    freehold.progress({ kind: 'step-started', label: `restore ${referenceOf(item)}` });
    const held = await heldAfter(freehold, archive, item);
    const { isNew } = await restoreOne(freehold, source, item, held, options);
    await restoreReferrers(freehold, source, item, signal);
    const how = item.kind === 'trusted' ? ('as signed' as const) : ('signed again' as const);
    const reference = referenceOf(item);
    restored.push({ reference, isNew, how, ...(held === undefined ? {} : { held }) });
  }
  return { packages: restored, trusted, remarks: await restoreChannels(freehold, archive, signal) };
}

/** Only what the user approved of, for this purpose: see `ApprovedKeys`. */
async function trustNewKeys({ home }: Freehold, packages: readonly ArchivePackage[]) {
  const trusted = [];
  for (const item of packages) {
    for (const { pattern, key } of item.kind === 'trusted' ? item.newKeys : []) {
      const { isNew } = await home.trust.add(pattern, key.pem);
      if (isNew) trusted.push({ pattern, fingerprint: formatFingerprint(key.fingerprint) });
    }
  }
  return trusted;
}

/**
 * Whether a version stays out of use: what this home knows of it counts first (in use, held, or declined and removed), then
 * what the home that wrote the archive says.
 */
async function heldAfter(
  freehold: Freehold,
  { layout }: Archive,
  item: ArchivePackage,
): Promise<HeldReason | undefined> {
  const { name, version } = 'descriptor' in item ? item.descriptor : item.verified.descriptor;
  const packages = installedPackages(await freehold.store.entries());
  const known = await knownVersions(freehold, packages, name);
  const here = known.find((candidate) => candidate.version === version);
  if (here !== undefined) return here.held;
  const there = layout.contents?.packages.find(({ manifest }) => manifest === item.manifest.digest)?.held;
  return HELD_REASONS.find((reason) => reason === there);
}

async function restoreOne(
  freehold: Freehold,
  source: ArtifactSource,
  item: ArchivePackage,
  held: HeldReason | undefined,
  options: RestoreArchiveOptions,
): Promise<InstallResult> {
  const { signal } = options;
  const mark: AddOptions = held === undefined ? {} : { entryAnnotations: { [HELD_ANNOTATION]: held } };
  switch (item.kind) {
    case 'trusted':
      return installFromSource(freehold, [source], item.manifest, { ...mark, signal, isWithoutDelta: true });
    case 'pinned':
      return installPinned(freehold, source, item.entry, options);
    case 'adopted':
      return adopt(freehold, source, item, mark, signal);
    case 'refused':
      throw item.error;
    default:
      return item satisfies never;
  }
}

/** Described anew from the bytes, as if they had come from the catalog: of somebody else's packaging nothing was verified. */
async function installPinned(
  freehold: Freehold,
  source: ArtifactSource,
  entry: CatalogEntry,
  options: RestoreArchiveOptions,
): Promise<InstallResult> {
  const { signal } = options;
  const { store, progress } = freehold;
  const { digest, sizeBytes, fileName: label } = entry;
  const blob = { digest, sizeBytes };
  return store.withLease(async () => {
    await store.download(blob, (startBytes) => source.blob(blob, { startBytes }, signal), {
      signal,
      onBytes: (doneBytes, resumedBytes) =>
        progress({ kind: 'bytes-moved', label, doneBytes, totalBytes: sizeBytes, resumedBytes }),
    });
    return installGguf(freehold, [{ kind: 'stored', ...blob }], catalogFacts(entry), options);
  });
}

/** A package that another home made for itself becomes one of this home: the same content under this home's signature. */
async function adopt(
  freehold: Freehold,
  source: ArtifactSource,
  { verified, documents }: Extract<ArchivePackage, { kind: 'adopted' }>,
  mark: AddOptions,
  signal: AbortSignal,
): Promise<InstallResult> {
  const { privateKey } = await freehold.home.ensureHomeSigner();
  const downloads = new FileDownloads(freehold, [source], verified, []);
  return freehold.store.withLease(async () => {
    const { signatures } = await writeSigned(freehold, verified.descriptor, [], privateKey);
    const { fingerprint } = privateKey.publicKey;
    const signers = [{ path: signatures[0]?.path ?? '', fingerprint, trustedFor: verified.descriptor.name }];
    const own = { ...verified, signatures, signers };
    const bring: PackageToInstall['bring'] = (files) =>
      inParallel(files, BLOBS_AT_ONCE, signal, (file, stop) => downloads.bring(file, stop));
    return installVerified(freehold, { verified: own, documents, bring }, mark);
  });
}

/** Bills of materials, attestations, late signatures: they hang on the manifest, which only stays the same as it is signed. */
async function restoreReferrers(
  { store }: Freehold,
  source: ArtifactSource,
  item: ArchivePackage,
  signal: AbortSignal,
): Promise<void> {
  if (item.kind !== 'trusted') return;
  const { name } = item.verified.descriptor;
  await store.withLease(async () => {
    for (const { digest } of await source.referrers(item.manifest.digest, signal)) {
      const document = await source.manifest({ digest }, signal);
      if (document !== undefined) await copyArtifact([source], storePlace(store, name), document, { signal });
    }
  });
}

/** Expired or unverifiable channels keep nobody from running what an archive restores. */
async function restoreChannels(freehold: Freehold, archive: Archive, signal: AbortSignal): Promise<string[]> {
  const remarks: string[] = [];
  for (const { name } of archive.layout.index) {
    if (name?.tag !== CHANNELS_TAG) continue;
    const source = archive.source(name.repository);
    const access = {
      withSources: <T>(_: unknown, __: unknown, work: (sources: readonly ArtifactSource[]) => Promise<T>) =>
        work([source]),
      withRepository: () => Promise.reject(new FreeholdError('OFFLINE', 'an archive is no registry')),
    };
    try {
      const from = { host: 'archive', repository: name.repository };
      await refreshChannels(freehold, name.repository, from, { signal, access });
    } catch (error) {
      signal.throwIfAborted();
      const { code, message } = toFreeholdError(error);
      remarks.push(`channels of ${name.repository}: ${message} [${code}]`);
    }
  }
  return remarks;
}

/** Before anything is written: what an incremental archive left out must be in the store. */
async function requireNothingMissing(
  { store }: Freehold,
  { layout }: Archive,
  packages: readonly ArchivePackage[],
): Promise<void> {
  const missing = new Map(layout.missing.map((blob) => [blob.digest, blob]));
  for (const item of packages) {
    const { files } = 'descriptor' in item ? item.descriptor : item.verified.descriptor;
    for (const file of files) {
      if (!missing.has(file.digest) || (await store.blobs.has(file.digest))) continue;
      const left = layout.contents?.leftOut.find(({ digest }) => digest === file.digest);
      const where = left === undefined ? 'another archive' : `the earlier archive ${left.archive.name}`;
      throw new FreeholdError(
        'FILE_MISSING',
        `${layout.label} left out ${file.path} of ${referenceOf(item)}: ${where} has it, and the store has not`,
        {
          hint: `freehold archive restore ${left?.archive.name ?? 'EARLIER'} first`,
          detail: { file: file.path, digest: file.digest, archive: left?.archive.name ?? null },
        },
      );
    }
  }
}
