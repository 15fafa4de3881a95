import path from 'node:path';
import { Digest } from '../../core/base/digest.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import { type RegistryReference, registryReferenceText } from '../../core/base/registry-reference.ts';
import { type AppModel, parseModelSource } from '../../core/format/app-yaml.ts';
import { contentMismatch, type LockedModel } from '../../core/format/lock-file.ts';
import { isInRange } from '../../core/format/version-range.ts';
import { refreshChannels } from './channel-refresh.ts';
import { findPackage } from './find-package.ts';
import type { Freehold } from './freehold.ts';
import { installReference } from './install-reference.ts';
import { fullReference, installedPackages } from './installed-packages.ts';
import { withSources } from './registry-places.ts';
import { requireChannel } from './update-check.ts';
import { verifyInstalled } from './verify-package.ts';

export interface ResolveOptions {
  readonly signal: AbortSignal;
  readonly isLicenseAccepted: boolean;
  /** Of the application, in which `file:` paths begin. */
  readonly folder: string;
}

type Installed = Awaited<ReturnType<typeof installReference>>;

/** Content, version and variant of what a lock is made of. */
type Resolved = Pick<LockedModel, 'name' | 'version' | 'variant' | 'content' | 'manifest' | 'source'>;

/**
 * What a model of `freehold.yaml` is at this moment. Of a package in a registry only the small documents are read, and
 * its signature verified; what is packaged on this machine (catalog, Hugging Face, other tools' models) gets its content
 * digest by being installed.
 * @throws what finding, verifying and installing throw
 */
export async function resolveModel(
  freehold: Freehold,
  model: AppModel,
  options: ResolveOptions,
): Promise<LockedModel> {
  const { reference, text: from, variant, channel } = model;
  if (reference.kind !== 'registry') {
    const installed = await install(freehold, from, variant, options);
    const resolved = resolvedOf(installed, from);
    // What the installer calls the source of a file is a path of this machine.
    return { from, ...resolved, ...(reference.kind === 'file' ? { source: from } : {}) };
  }
  const wanted = variant === undefined ? reference : { ...reference, variant };
  const resolved = await resolveInRegistry(freehold, wanted, options);
  const isExact = wanted.selector.kind === 'tag' || wanted.selector.kind === 'digest';
  if (channel === undefined || isExact) return { from, ...resolved };
  return { from, ...(await resolveInChannel(freehold, wanted, { name: resolved.name, channel }, options)) };
}

/**
 * Of what a channel offers, the first that the range allows. A lock is for many machines, so a release counts once its
 * rollout has reached all; and of its content the channel's word counts, since a tag could have moved.
 * @throws NOT_FOUND, CHANNEL_INVALID, CHANNEL_EXPIRED, what resolving throws
 */
async function resolveInChannel(
  freehold: Freehold,
  reference: RegistryReference,
  { name, channel }: { readonly name: string; readonly channel: string },
  options: ResolveOptions,
): Promise<Resolved> {
  const { contents } = await refreshChannels(freehold, name, reference, { signal: options.signal });
  requireChannel(contents, channel, name);
  const range = reference.selector.kind === 'range' ? reference.selector.range : '*';
  const releases = contents.channels.get(channel)?.releases ?? [];
  const release = releases.find(
    ({ version, rolloutPercent }) =>
      rolloutPercent === 100 &&
      isInRange(version, range) &&
      !contents.yanked.some((yanked) => yanked.version === version),
  );
  if (release === undefined) {
    throw new FreeholdError('NOT_FOUND', `the channel ${channel} of ${name} has no version for ${range}`, {
      hint: `it has ${releases.map(({ version }) => version).join(', ') || 'none'}; a rollout that is not complete does not count`,
    });
  }
  const selector = { kind: 'tag', tag: release.version } as const;
  const resolved = await resolveInRegistry(freehold, { ...reference, selector }, options);
  const promised = release.variants.find(({ variant }) => variant === resolved.variant)?.contentDigest;
  if (promised === resolved.content) return resolved;
  throw new FreeholdError(
    'CHANNEL_INVALID',
    `${fullReference(resolved)} has the content ${resolved.content}, the channel ${channel} says ${promised ?? 'nothing of it'}`,
    { detail: { expected: promised ?? null, actual: resolved.content } },
  );
}

async function resolveInRegistry(
  freehold: Freehold,
  reference: RegistryReference,
  options: ResolveOptions,
): Promise<Resolved> {
  const { signal } = options;
  const found = await withSources(freehold, reference, (sources) =>
    findPackage(freehold, sources, reference, { signal }),
  );
  const { digest } = found.manifest;
  const byDigest = registryReferenceText({ ...reference, selector: { kind: 'digest', digest } });
  if (found.artifact === undefined) {
    return resolvedOf(await install(freehold, byDigest, reference.variant, options), byDigest);
  }
  const { verified } = found.artifact;
  const { name, version, variant } = verified.descriptor;
  return {
    name,
    version,
    variant,
    content: verified.contentDigest,
    manifest: digest,
    source: isFixed(reference, version, variant)
      ? registryReferenceText({ ...reference, selector: fixedSelector(reference, version), variant })
      : reference.selector.kind === 'digest'
        ? registryReferenceText({ ...reference, variant })
        : byDigest,
  };
}

/** Whether the tag says which version it is: it should always stay the same, while `latest` is meant to move. */
function isFixed({ selector }: RegistryReference, version: string, variant: string): boolean {
  if (selector.kind === 'tag') return [version, `${version}-${variant}`].includes(selector.tag);
  return selector.kind !== 'digest';
}

function fixedSelector({ selector }: RegistryReference, version: string): RegistryReference['selector'] {
  return selector.kind === 'tag' ? selector : { kind: 'tag', tag: version };
}

/**
 * Brings exactly what a lock says, unless it is installed.
 * @throws LOCK_MISMATCH when there is other content where the lock says, naming both digests; what installing throws
 */
export async function installLocked(
  freehold: Freehold,
  locked: LockedModel,
  options: ResolveOptions,
): Promise<{ readonly isNew: boolean }> {
  if (await isInstalled(freehold, locked)) return { isNew: false };
  const { reference } = parseModelSource(locked.source);
  const result = await installAs(freehold, locked, locked.source, options).catch((error: unknown) => {
    const isGone =
      error instanceof FreeholdError && (error.code === 'NOT_FOUND' || error.code === 'MODEL_NOT_FOUND');
    if (!isGone || reference.kind !== 'registry' || reference.selector.kind === 'digest') throw error;
    // The tag is gone; the manifest may still be there.
    const selector = { kind: 'digest', digest: locked.manifest } as const;
    return installAs(freehold, locked, registryReferenceText({ ...reference, selector }), options);
  });
  return { isNew: result.isNew };
}

async function installAs(
  freehold: Freehold,
  locked: LockedModel,
  source: string,
  options: ResolveOptions,
): Promise<Installed> {
  const result = await install(freehold, source, locked.variant, options, locked);
  if (result.contentDigest !== locked.content) {
    throw contentMismatch(`${source} has`, result.contentDigest, locked.content);
  }
  return result;
}

/** Installed, its signature good, and with the content of the lock. @throws LOCK_MISMATCH when it has another */
async function isInstalled(freehold: Freehold, locked: LockedModel): Promise<boolean> {
  const reference = fullReference(locked);
  const item = installedPackages(await freehold.store.entries()).find(
    (installed) => fullReference(installed) === reference,
  );
  if (item === undefined) return false;
  const contentDigest = await verifyInstalled(freehold, item).then(
    (verified) => verified.contentDigest,
    () => undefined,
  );
  // What is damaged or not trusted any more is installed again, or refused with its reason.
  if (contentDigest === undefined) return false;
  if (contentDigest !== locked.content) {
    throw contentMismatch(`${reference} is installed with`, contentDigest, locked.content);
  }
  return true;
}

async function install(
  freehold: Freehold,
  source: string,
  variant: string | undefined,
  { folder, signal, isLicenseAccepted }: ResolveOptions,
  locked?: LockedModel,
): Promise<Installed> {
  const { reference } = parseModelSource(source);
  const text =
    reference.kind === 'file'
      ? `file:${path.resolve(folder, reference.path)}`
      : reference.kind === 'registry' && variant !== undefined
        ? registryReferenceText({ ...reference, variant })
        : source;
  const result = await installReference(freehold, text, {
    isLicenseAccepted,
    signal,
    // The name is part of the content, and a source by digest has none that it would follow from.
    ...(locked?.name.startsWith('local/') === true ? { name: locked.name } : {}),
    expect: {
      ...(variant === undefined ? {} : { variant }),
      ...(locked === undefined ? {} : { contentDigest: locked.content }),
    },
  });
  if (variant !== undefined && result.variant !== variant) {
    throw new FreeholdError('MODEL_NOT_FOUND', `${source} has the variant ${result.variant}, not ${variant}`);
  }
  return result;
}

/** @param source to write down where the installer knows no more exact one */
const resolvedOf = (installed: Installed, source: string): Resolved => ({
  name: installed.name,
  version: installed.version,
  variant: installed.variant,
  content: Digest.parse(installed.contentDigest),
  manifest: installed.manifestDigest,
  source: 'source' in installed ? installed.source : source,
});
