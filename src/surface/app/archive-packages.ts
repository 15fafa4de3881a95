import type { Digest } from '../../core/base/digest.ts';
import { FreeholdError, toFreeholdError } from '../../core/base/errors.ts';
import { type Fingerprint, formatFingerprint } from '../../core/crypto/keys.ts';
import type { TrustedKey, TrustPolicy } from '../../core/crypto/trust-policy.ts';
import { decidingRule } from '../../core/crypto/trust-policy.ts';
import { ARCHIVE_TRUST_PATH } from '../../core/format/archive-contents.ts';
import { parseArchiveTrust, takenOver } from '../../core/format/archive-trust.ts';
import {
  DOCUMENT_TYPES,
  MANIFEST_TYPES,
  parseArtifactDocument,
} from '../../core/format/artifact-documents.ts';
import type { ArtifactSource, ManifestDocument } from '../../core/format/artifact-place.ts';
import { layerPath } from '../../core/format/oci.ts';
import {
  DESCRIPTOR_BYTES_MAX,
  DESCRIPTOR_PATH,
  type PackageDescriptor,
  parsePackageDescriptor,
} from '../../core/format/package-descriptor.ts';
import type { VerifiedPackage } from '../../core/format/package-verification.ts';
import type { Archive } from '../../io/archive/archive.ts';
import type { CatalogEntry } from '../../io/fetch/catalog-entry.ts';
import type { Freehold } from './freehold.ts';
import { isPackageManifest, readPackageArtifact, readSmallBlob } from './install-artifact.ts';
import { fullReference } from './installed-packages.ts';

/** 1 MiB: our rules with their keys; the YAML reader takes no more either. */
const TRUST_BYTES_MAX = 1 << 20;
/** Names under which each home signs for itself; another home's key means nothing here. */
const HOME_NAMES = /^(?:catalog|local)\//;

/** A package of an archive with what makes it acceptable here. */
export type ArchivePackage =
  /** Signed by a key that is trusted for its name. */
  | {
      readonly kind: 'trusted';
      readonly manifest: ManifestDocument;
      readonly verified: VerifiedPackage;
      /** Keys that the user approved for it and that are not in trust.yaml yet. */
      readonly newKeys: readonly TrustedKey[];
    }
  /** A catalog model: its weights are the ones that this Freehold pins, whoever packaged and signed them. */
  | {
      readonly kind: 'pinned';
      readonly manifest: ManifestDocument;
      readonly descriptor: PackageDescriptor;
      readonly entry: CatalogEntry;
    }
  /** Packaged by another home for itself; the user approved of that home's key. */
  | {
      readonly kind: 'adopted';
      readonly manifest: ManifestDocument;
      readonly verified: VerifiedPackage;
      readonly documents: readonly Buffer[];
    }
  | {
      readonly kind: 'refused';
      readonly manifest: ManifestDocument;
      readonly descriptor: PackageDescriptor;
      readonly error: FreeholdError;
      /** Keys of the archive that would make it acceptable, if the user approved one of them. */
      readonly keys: readonly { readonly fingerprint: Fingerprint; readonly pattern: string }[];
    };

/** Which of the archive's keys the user trusts, having compared them. */
export type ApprovedKeys =
  | { readonly kind: 'none' }
  | { readonly kind: 'all' }
  | { readonly kind: 'named'; readonly fingerprints: readonly Fingerprint[] };

/**
 * Reads every package of an archive and judges it: under the home's trust, under keys of the archive that the user
 * approved of, by the digests of the catalog. Of weights not a byte is read.
 * @throws what is wrong with a package itself (SIGNATURE_INVALID, PACKAGE_INVALID, …), naming it
 */
export async function readArchivePackages(
  freehold: Freehold,
  archive: Archive,
  approved: ApprovedKeys,
  signal: AbortSignal,
): Promise<readonly ArchivePackage[]> {
  const source = archive.source();
  const judge = new Judge(
    freehold,
    source,
    await readArchiveTrust(freehold, archive, signal),
    approved,
    signal,
  );
  const packages: ArchivePackage[] = [];
  for (const manifest of await packageManifests(archive, source, signal))
    packages.push(await judge.judge(manifest));
  return packages;
}

/** Every manifest of a package that `index.json` names, directly or through an index, once. */
async function packageManifests(
  { layout }: Archive,
  source: ArtifactSource,
  signal: AbortSignal,
): Promise<ManifestDocument[]> {
  const found: ManifestDocument[] = [];
  const seen = new Set<Digest>();
  const queue = layout.index.map(({ descriptor }) => descriptor);
  for (const { digest, mediaType } of queue) {
    if (seen.has(digest) || !DOCUMENT_TYPES.includes(mediaType) || !layout.blobs.has(digest)) continue;
    seen.add(digest);
    const document = await source.manifest({ digest }, signal);
    if (document === undefined) continue;
    if (!MANIFEST_TYPES.includes(document.mediaType)) {
      queue.push(...parseArtifactDocument(document.bytes, digest).manifests);
    } else if (isPackageManifest(document)) found.push(document);
  }
  return found;
}

/** The archive's own `trust.yaml`; nothing of it is believed. @throws ARCHIVE_INVALID */
export async function readArchiveTrust(
  freehold: Freehold,
  { layout, source }: Archive,
  signal: AbortSignal,
): Promise<TrustPolicy> {
  const layer = layout.attachments.get(ARCHIVE_TRUST_PATH);
  if (layer === undefined) return { rules: [] };
  const bytes = await readSmallBlob(freehold, [source()], layer, TRUST_BYTES_MAX, signal);
  try {
    return parseArchiveTrust(bytes, `${layout.label}: ${ARCHIVE_TRUST_PATH}`);
  } catch (error) {
    if (!(error instanceof FreeholdError)) throw error;
    throw new FreeholdError('ARCHIVE_INVALID', error.message, { cause: error });
  }
}

class Judge {
  readonly #freehold: Freehold;
  readonly #source: ArtifactSource;
  readonly #offered: TrustPolicy;
  readonly #approved: ApprovedKeys;
  readonly #signal: AbortSignal;

  constructor(
    freehold: Freehold,
    source: ArtifactSource,
    offered: TrustPolicy,
    approved: ApprovedKeys,
    signal: AbortSignal,
  ) {
    this.#freehold = freehold;
    this.#source = source;
    this.#offered = offered;
    this.#approved = approved;
    this.#signal = signal;
  }

  async judge(manifest: ManifestDocument): Promise<ArchivePackage> {
    const descriptor = await this.#descriptor(manifest);
    const home = await this.#freehold.home.trust.load();
    try {
      const { verified } = await this.#verify(manifest, home);
      return { kind: 'trusted', manifest, verified, newKeys: [] };
    } catch (thrown) {
      const error = toFreeholdError(thrown);
      if (error.code !== 'SIGNER_UNTRUSTED') throw naming(descriptor, error);
      const found = await this.#otherwise(manifest, descriptor, home);
      return (
        found ?? { kind: 'refused', manifest, descriptor, error, keys: this.#offers(descriptor.name, home) }
      );
    }
  }

  /** Not signed by whom the home trusts: what else makes it acceptable. */
  async #otherwise(
    manifest: ManifestDocument,
    descriptor: PackageDescriptor,
    home: TrustPolicy,
  ): Promise<ArchivePackage | undefined> {
    const entry = await this.#pinnedEntry(descriptor);
    if (entry !== undefined) return { kind: 'pinned', manifest, descriptor, entry };
    const rule = this.#offeredRule(descriptor.name, home);
    if (rule === undefined) return undefined;
    const newKeys = takenOver(rule, descriptor.name, (fingerprint) => this.#isApproved(fingerprint));
    const [first] = newKeys;
    if (first === undefined) return undefined;
    const policy = { rules: [{ pattern: first.pattern, keys: newKeys.map(({ key }) => key) }] };
    const { verified, documents } = await this.#verify(manifest, policy).catch((error: unknown) => {
      throw naming(descriptor, error);
    });
    if (HOME_NAMES.test(descriptor.name)) return { kind: 'adopted', manifest, verified, documents };
    const signers = new Set(verified.signers.map(({ fingerprint }) => fingerprint));
    return {
      kind: 'trusted',
      manifest,
      verified,
      newKeys: newKeys.filter(({ key }) => signers.has(key.fingerprint)),
    };
  }

  /** What the home has decided about a name, no archive changes. Names of the home itself it decides for its own key only. */
  #offeredRule(name: string, home: TrustPolicy) {
    const isDecided = decidingRule(home, name) !== undefined && !HOME_NAMES.test(name);
    return isDecided ? undefined : decidingRule(this.#offered, name);
  }

  #offers(name: string, home: TrustPolicy) {
    const rule = this.#offeredRule(name, home);
    return (rule?.keys ?? []).map(({ fingerprint }) => ({ fingerprint, pattern: rule?.pattern ?? name }));
  }

  #isApproved(fingerprint: Fingerprint): boolean {
    switch (this.#approved.kind) {
      case 'none':
        return false;
      case 'all':
        return true;
      case 'named':
        return this.#approved.fingerprints.includes(fingerprint);
      default:
        return this.#approved satisfies never;
    }
  }

  /** The catalog's entry of this name, if the package has exactly its weights. Nothing else of the package is taken. */
  async #pinnedEntry({ name, files }: PackageDescriptor): Promise<CatalogEntry | undefined> {
    if (!name.startsWith('catalog/')) return undefined;
    const entries = (await this.#freehold.catalog()).list();
    const entry = entries.find((candidate) => `catalog/${candidate.name}` === name);
    const isSame = files.some(({ digest, size }) => digest === entry?.digest && size === entry.sizeBytes);
    return isSame ? entry : undefined;
  }

  #verify(manifest: ManifestDocument, trust: TrustPolicy) {
    return readPackageArtifact(this.#freehold, [this.#source], manifest, { signal: this.#signal, trust });
  }

  async #descriptor(manifest: ManifestDocument): Promise<PackageDescriptor> {
    const { layers } = parseArtifactDocument(manifest.bytes, manifest.digest);
    const layer = layers.find((candidate) => layerPath(candidate) === DESCRIPTOR_PATH);
    if (layer === undefined)
      throw new FreeholdError('PACKAGE_INVALID', `${manifest.digest} has no ${DESCRIPTOR_PATH}`);
    const bytes = await readSmallBlob(
      this.#freehold,
      [this.#source],
      layer,
      DESCRIPTOR_BYTES_MAX,
      this.#signal,
    );
    return parsePackageDescriptor(bytes);
  }
}

function naming(descriptor: PackageDescriptor, thrown: unknown): FreeholdError {
  const { code, message, hint, detail, cause } = toFreeholdError(thrown);
  return new FreeholdError(code, `${fullReference(descriptor)}: ${message}`, { hint, detail, cause });
}

/** `acme/tiny@1.0.0#q8_0`. */
export function referenceOf(item: ArchivePackage): string {
  return fullReference('descriptor' in item ? item.descriptor : item.verified.descriptor);
}

/** @throws SIGNER_UNTRUSTED listing what is not trusted, with the keys to compare */
export function requireNoneRefused(label: string, packages: readonly ArchivePackage[]): void {
  const refused = packages.filter((item) => item.kind === 'refused');
  const [first] = refused;
  if (first === undefined) return;
  const keys = new Map(refused.flatMap((item) => item.keys.map((key) => [key.fingerprint, key])));
  if (keys.size === 0) throw naming(first.descriptor, first.error);
  const names = [...new Set(refused.map(({ descriptor }) => descriptor.name))].join(', ');
  const shown = [...keys.values()].map(
    ({ fingerprint, pattern }) => `${formatFingerprint(fingerprint)} for ${pattern}`,
  );
  throw new FreeholdError(
    'SIGNER_UNTRUSTED',
    `${label}: this home trusts no key for ${names}; the archive offers ${shown.join(', ')}`,
    {
      hint: 'compare with the publisher by another way than this archive, then repeat with --trust FINGERPRINT (or --trust-archive-keys for all of them)',
      detail: { names, fingerprints: [...keys.keys()].join(' ') },
    },
  );
}
