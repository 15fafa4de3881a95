import { FreeholdError } from '../../core/base/errors.ts';
import { type RegistryReference, registryReferenceText } from '../../core/base/registry-reference.ts';
import { decidingRule } from '../../core/crypto/trust-policy.ts';
import type { ArtifactSource, ManifestDocument } from '../../core/format/artifact-place.ts';
import type { VariantChoice } from '../../core/format/variant-choice.ts';
import { fromAny } from '../../features/transfer/failover.ts';
import type { ExpectedPackage } from './expected-package.ts';
import type { Freehold } from './freehold.ts';
import { isPackageManifest, type PackageArtifact, readPackageArtifact } from './install-artifact.ts';
import { readMachineFacts } from './machine-facts.ts';
import { type ListedVariant, resolveArtifact, withFixedVersion } from './resolve-remote.ts';

export interface FindOptions {
  readonly signal: AbortSignal;
  readonly expect?: ExpectedPackage | undefined;
  /** Takes an artifact without a signature, though a trust rule says who signs models of this name. */
  readonly mayImport?: boolean | undefined;
}

/** What a reference means: a package with its signature verified, or an artifact of another tool. */
export interface FoundPackage {
  readonly manifest: ManifestDocument;
  readonly choice: VariantChoice<ListedVariant> | undefined;
  /** The places, the one that was believed first. */
  readonly sources: readonly ArtifactSource[];
  /** Absent for what is no package of ours. */
  readonly artifact?: PackageArtifact;
}

/**
 * Finds what a reference means. A place whose package does not verify, or is another than was asked for, is passed over like
 * one that does not answer.
 * @param sources in order of preference; the last is the registry itself
 * @throws the only source's error; SOURCES_EXHAUSTED; SIGNATURE_MISSING for an artifact that should be a signed package
 */
export async function findPackage(
  freehold: Freehold,
  sources: readonly ArtifactSource[],
  reference: RegistryReference,
  options: FindOptions,
): Promise<FoundPackage> {
  const { signal, expect = {} } = options;
  const asking = { signal, progress: freehold.progress };
  const machine = await readMachineFacts();
  const fixed = await withFixedVersion(sources, reference, asking);
  return fromAny(sources, registryReferenceText(fixed), asking, async (source) => {
    const resolved = await resolveArtifact([source], fixed, machine, asking);
    const { manifest, choice } = resolved;
    const places = [source, ...sources.filter((other) => other !== source)];
    if (!isPackageManifest(manifest)) {
      await requireMayImport(freehold, fixed, source === sources.at(-1), options);
      return { manifest, choice, sources: [source] };
    }
    const known = { signal, expect: { ...resolved.expect, ...expect } };
    const artifact = await readPackageArtifact(freehold, places, manifest, known);
    return { manifest, choice, sources: places, artifact };
  });
}

/**
 * Attack: a registry or mirror that puts a bare model in the place of a signed package, which would be imported and
 * signed by the home. So where it is said who signs, or what the package is, nothing unsigned will do.
 * @throws SIGNATURE_MISSING
 */
async function requireMayImport(
  freehold: Freehold,
  reference: RegistryReference,
  isRegistryItself: boolean,
  { expect = {}, mayImport = false }: FindOptions,
): Promise<void> {
  const policy = await freehold.home.trust.load();
  const parts = reference.repository.split('/');
  const names = [parts.slice(-2).join('/'), parts.at(-1) ?? ''];
  const rule = names.map((name) => decidingRule(policy, name)).find((found) => found !== undefined);
  const isKnown =
    expect.name !== undefined || expect.version !== undefined || reference.variant !== undefined;
  const isPinned = reference.selector.kind === 'digest';
  if (!isKnown && (isPinned || isRegistryItself) && (rule === undefined || mayImport)) return;
  const why =
    rule === undefined
      ? isKnown
        ? 'a package was asked for'
        : 'a mirror is believed only in what is signed'
      : `trust.yaml says who signs ${rule.pattern}`;
  throw new FreeholdError(
    'SIGNATURE_MISSING',
    `${registryReferenceText(reference)} is no signed package, and ${why}`,
    {
      hint: 'somebody may have put something else in its place; freehold install --import takes a model that nobody signed',
    },
  );
}
