import { type Key, type Metadata, MetadataKind, type Root } from '@tufjs/models';
import { TrustedMetadataStore } from 'tuf-js/dist/store.js';
import { Digest } from '../../core/base/digest.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import { type Fingerprint, formatFingerprint } from '../../core/crypto/keys.ts';
import { decideTrust, type TrustPolicy } from '../../core/crypto/trust-policy.ts';
import {
  type ChannelFileSource,
  type ChannelFiles,
  METADATA_BYTES_MAX,
  versionedTitle,
} from './channel-files.ts';
import { channelKey, requireSoundMetadata } from './channel-metadata.ts';

/** What a root says, for people to compare and for publishers to find their keys. */
export interface RootFacts {
  readonly version: number;
  readonly expires: string;
  /** Of the file: what `channel trust --digest` takes. */
  readonly digest: Digest;
  readonly rootKeys: readonly Fingerprint[];
  /** Grouped for comparing by eye. */
  readonly displayKeys: readonly string[];
  readonly threshold: number;
}

/** How the first root of a package comes to be trusted. */
export type TrustAnchor =
  /** By hand: exactly this file. */
  | { readonly kind: 'digest'; readonly digest: Digest }
  /** By trust.yaml: as many of its keys as the root demands must have signed it. */
  | { readonly kind: 'policy'; readonly policy: TrustPolicy };

/**
 * Reads a root that is its own witness only: well-formed, of this package, and signed by its own keys.
 * @throws CHANNEL_INVALID
 */
function readRoot(bytes: Buffer, name: string): Metadata<Root> {
  requireSoundMetadata(bytes, 'root', name);
  try {
    return new TrustedMetadataStore(bytes).root;
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new FreeholdError('CHANNEL_INVALID', `root of the channels of ${name}: ${reason}`, {
      cause: error,
    });
  }
}

export function rootFacts(bytes: Buffer, name: string): RootFacts {
  const { signed } = readRoot(bytes, name);
  const rootKeys = keysOfRole(signed, 'root').map(({ fingerprint }) => fingerprint);
  return {
    version: signed.version,
    expires: signed.expires,
    digest: Digest.of(bytes),
    rootKeys,
    displayKeys: rootKeys.map(formatFingerprint),
    threshold: signed.roles.root?.threshold ?? 0,
  };
}

/** The keys of a role with their ids. */
export function keysOfRole(root: Root, role: string): { key: Key; fingerprint: Fingerprint }[] {
  return (root.roles[role]?.keyIDs ?? []).flatMap((id) => {
    const key = root.keys[id];
    return key === undefined
      ? []
      : [{ key, fingerprint: channelKey(key.keyVal.public ?? '', id).fingerprint }];
  });
}

/**
 * The first root of a package: the newest that the anchor vouches for. Later ones follow from it, step by step, so a
 * customer who trusts a key that was replaced since gets there as well.
 * @throws SIGNER_UNTRUSTED with the fingerprints to compare, CHANNEL_INVALID, NOT_FOUND when the source has no root
 */
export async function findAnchor(
  source: ChannelFileSource,
  name: string,
  anchor: TrustAnchor,
): Promise<ChannelFiles> {
  const versions = await source.rootVersions();
  let newest: RootFacts | undefined;
  for (const version of versions.toReversed()) {
    const title = versionedTitle('root', version);
    const bytes = await source.read(title, METADATA_BYTES_MAX.root);
    if (bytes === undefined) continue;
    if (anchor.kind === 'digest' && Digest.of(bytes) !== anchor.digest) continue;
    const root = readRoot(bytes, name);
    newest ??= rootFacts(bytes, name);
    const isAnchored = anchor.kind === 'digest' || isSignedByTrusted(root, name, anchor.policy);
    // A name that lies about its number would break the chain that begins here.
    if (isAnchored && root.signed.version === version) return new Map([[title, bytes]]);
  }
  throw untrusted(source, name, anchor, newest);
}

function isSignedByTrusted(root: Metadata<Root>, name: string, policy: TrustPolicy): boolean {
  const signers = keysOfRole(root.signed, MetadataKind.Root).filter(
    ({ key, fingerprint }) =>
      decideTrust(policy, name, fingerprint).kind === 'trusted' && hasSigned(key, root),
  );
  return signers.length >= (root.signed.roles.root?.threshold ?? Number.POSITIVE_INFINITY);
}

function hasSigned(key: Key, metadata: Metadata<Root>): boolean {
  try {
    key.verifySignature(metadata);
    return true;
  } catch {
    return false;
  }
}

function untrusted(
  source: ChannelFileSource,
  name: string,
  anchor: TrustAnchor,
  newest: RootFacts | undefined,
): FreeholdError {
  if (anchor.kind === 'digest') {
    return new FreeholdError('SIGNER_UNTRUSTED', `${source.label} has no root ${anchor.digest} for ${name}`, {
      hint: 'compare with the publisher: freehold channel show prints the digest of each root',
    });
  }
  if (newest === undefined) {
    return new FreeholdError('NOT_FOUND', `${source.label} has no channels of ${name}`, {
      hint: 'freehold channel create publishes them',
    });
  }
  const keys = newest.displayKeys.join(', ');
  return new FreeholdError(
    'SIGNER_UNTRUSTED',
    `the root of the channels of ${name} needs ${newest.threshold} of the keys ${keys}, and trust.yaml does not have them for this name`,
    {
      hint: `compare the fingerprint with the publisher, then: freehold trust add ${name} KEYFILE, or freehold channel trust ${name} --root FILE`,
      detail: { name, root: newest.digest, threshold: newest.threshold },
    },
  );
}
