import { FreeholdError } from '../../core/base/errors.ts';
import { shortName } from '../../core/base/ids.ts';
import { type RegistryReference, registryReferenceText } from '../../core/base/registry-reference.ts';
import { MANIFEST_TYPES, parseArtifactDocument } from '../../core/format/artifact-documents.ts';
import type { ArtifactSource, ManifestDocument } from '../../core/format/artifact-place.ts';
import type { OciDescriptor } from '../../core/format/oci.ts';
import {
  chooseVariant,
  type MachineFacts,
  type VariantChoice,
  type VariantFacts,
  variantFacts,
} from '../../core/format/variant-choice.ts';
import { newestVersion } from '../../core/format/version-range.ts';
import { listVersions } from '../../features/transfer/artifact-versions.ts';
import { type FailoverOptions, readDocument } from '../../features/transfer/failover.ts';
import type { ExpectedPackage } from './expected-package.ts';

/** Variants of one version; a hostile index must not cost more requests. */
const VARIANTS_MAX = 64;

/** A variant with its entry in the version's image index. */
export interface ListedVariant extends VariantFacts {
  readonly entry: OciDescriptor;
}

/** What a reference means in a registry at this moment. */
export interface ResolvedArtifact {
  /** The manifest of the one variant to install. */
  readonly manifest: ManifestDocument;
  /** What the package must say of itself. */
  readonly expect: ExpectedPackage;
  /** Why this variant; absent where the reference named one document. */
  readonly choice: VariantChoice<ListedVariant> | undefined;
}

/**
 * Reads the version that a reference names, and of its variants the one that is named, or fits this machine.
 * @param sources in order of preference
 * @param reference after `withFixedVersion`
 * @throws NOT_FOUND, MODEL_NOT_FOUND naming the versions or variants that there are, SOURCES_EXHAUSTED, MANIFEST_INVALID
 */
export async function resolveArtifact(
  sources: readonly ArtifactSource[],
  reference: RegistryReference,
  machine: MachineFacts,
  options: FailoverOptions,
): Promise<ResolvedArtifact> {
  const root = await readRoot(sources, reference, options);
  const document = parseArtifactDocument(root.bytes, root.digest);
  const { selector } = reference;
  const expect = {
    shortName: shortName(reference.repository),
    tag: selector.kind === 'tag' ? selector.tag : undefined,
  };
  if (document.kind === 'manifest') {
    return { manifest: root, expect: { ...expect, variant: reference.variant }, choice: undefined };
  }
  const listed = await listVariants(sources, document.manifests, options);
  // Not ours: whoever installs foreign artifacts looks into the index.
  if (listed.length === 0) return { manifest: root, expect: {}, choice: undefined };
  const choice = chooseListed(listed, reference, machine);
  const { entry, name } = choice.chosen;
  return {
    manifest: await readDocument(sources, { digest: entry.digest }, options),
    expect: { ...expect, variant: name },
    choice,
  };
}

/** The variants that an index lists. What copy tools drop from an entry, the manifest still has: the same annotations. */
async function listVariants(
  sources: readonly ArtifactSource[],
  entries: readonly OciDescriptor[],
  options: FailoverOptions,
): Promise<ListedVariant[]> {
  const listed: ListedVariant[] = [];
  for (const entry of entries.slice(0, VARIANTS_MAX)) {
    const facts = variantFacts(entry) ?? (await manifestFacts(sources, entry, options));
    if (facts !== undefined) listed.push({ ...facts, entry });
  }
  return listed;
}

async function manifestFacts(
  sources: readonly ArtifactSource[],
  entry: OciDescriptor,
  options: FailoverOptions,
): Promise<VariantFacts | undefined> {
  if (!MANIFEST_TYPES.includes(entry.mediaType)) return undefined;
  const { bytes, digest } = await readDocument(sources, { digest: entry.digest }, options);
  return variantFacts({ ...entry, annotations: { ...parseArtifactDocument(bytes, digest).annotations } });
}

/** The variant that is named, or the one for this machine. @throws MODEL_NOT_FOUND naming those that there are */
function chooseListed(
  listed: readonly ListedVariant[],
  reference: RegistryReference,
  machine: MachineFacts,
): VariantChoice<ListedVariant> {
  const label = registryReferenceText(reference);
  const { variant } = reference;
  const meant = variant === undefined ? listed : listed.filter(({ name }) => name === variant);
  if (meant.length === 0) {
    throw new FreeholdError('MODEL_NOT_FOUND', `${label} is not a variant of the package`, {
      hint: `it has ${listed.map(({ name }) => name).join(', ')}`,
    });
  }
  return chooseVariant(meant, machine, label);
}

/**
 * The tag of the version that a range, or nothing, means, of all places together; other selectors stay as they are.
 * @throws MODEL_NOT_FOUND naming the versions that there are
 */
export async function withFixedVersion(
  sources: readonly ArtifactSource[],
  reference: RegistryReference,
  options: FailoverOptions,
): Promise<RegistryReference> {
  const { selector } = reference;
  if (selector.kind === 'tag' || selector.kind === 'digest') return reference;
  const versions = await listVersions(sources, options);
  const version = newestVersion(versions, selector.kind === 'range' ? selector.range : undefined);
  if (version !== undefined) return { ...reference, selector: { kind: 'tag', tag: version } };
  throw new FreeholdError('MODEL_NOT_FOUND', `no version for ${registryReferenceText(reference)}`, {
    hint:
      versions.length === 0
        ? 'the repository has no tags that are versions; name a tag'
        : `there are ${versions.slice(0, 10).join(', ')}`,
  });
}

async function readRoot(
  sources: readonly ArtifactSource[],
  { selector }: RegistryReference,
  options: FailoverOptions,
): Promise<ManifestDocument> {
  if (selector.kind === 'tag') return readDocument(sources, { tag: selector.tag }, options);
  if (selector.kind === 'digest') return readDocument(sources, { digest: selector.digest }, options);
  throw new FreeholdError('INTERNAL', 'the version of a range was not looked for');
}
