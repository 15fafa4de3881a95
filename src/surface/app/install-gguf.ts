import path from 'node:path';
import type { Digest } from '../../core/base/digest.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import { shortName } from '../../core/base/ids.ts';
import type { BlobReference } from '../../core/format/artifact-place.ts';
import type { GgufDescription } from '../../core/format/gguf/gguf-description.ts';
import { readGguf } from '../../core/format/gguf/gguf-reader.ts';
import type { GgufFile } from '../../core/format/gguf/gguf-types.ts';
import { verifyModelGguf } from '../../core/format/gguf/gguf-verification.ts';
import { licenseExpression } from '../../core/format/license-expression.ts';
import { LOCAL_NAMESPACE } from '../../core/format/local-name.ts';
import { contentMismatch } from '../../core/format/lock-file.ts';
import type { PackageDescriptor, PackageFile } from '../../core/format/package-descriptor.ts';
import { withFileLock } from '../../io/files/file-lock.ts';
import type { Freehold } from './freehold.ts';
import type { ImportOptions } from './import-options.ts';
import { addVerified, type InstallResult } from './install-package.ts';
import { fullReference, type InstalledPackage, installedPackages } from './installed-packages.ts';
import { describePackage, weightsFileName } from './package-description.ts';
import { writeSigned } from './sign-package.ts';
import { verifyFiles, verifyInstalled, verifyVersionIndex } from './verify-package.ts';

/** Models of others are pinned by digest; the version counts our packaging of them. */
const IMPORT_VERSION = '1.0.0';

/** One file of the weights, or a text, wherever it lies. */
export type ImportedBytes =
  /** In the cache of the home, with this digest: leaves it. */
  | ({ readonly kind: 'cached'; readonly path: string } & BlobReference)
  /** A file of the user's: shares its blocks, or is copied. */
  | ({ readonly kind: 'local'; readonly path: string } & Partial<BlobReference>)
  /** In the store, verified when it was written. */
  | ({ readonly kind: 'stored' } & BlobReference);

export interface GgufFacts
  extends Pick<PackageDescriptor, 'name'>,
    Partial<Pick<PackageDescriptor, 'description' | 'parameters'>> {
  /** An SPDX expression; absent: what the file states. */
  readonly license?: string;
  /** Name of the one weights file in the package; absent: after the package and the quantization. */
  readonly weightsName?: string;
  /** Documents and a chat template, in the store already. */
  readonly documents?: readonly PackageFile[];
}

/**
 * The one step from GGUF bytes to an installed package: into the store (hashed), headers read from there and checked,
 * described, signed with the home's own key, and added by the same verification as every package.
 * @param weights all shards of one model, in order
 * @throws GGUF_INVALID, GGUF_LIMIT, DIGEST_MISMATCH, SIZE_MISMATCH, DISK_FULL; ALREADY_EXISTS when another file has this
 *   name; SIGNER_UNTRUSTED when the user took trust from the home's key
 */
export async function installGguf(
  freehold: Freehold,
  weights: readonly ImportedBytes[],
  facts: GgufFacts,
  options: ImportOptions,
): Promise<InstallResult> {
  const { signal } = options;
  return freehold.store.withLease(async () => {
    const blobs: BlobReference[] = [];
    for (const bytes of weights) blobs.push(await storeBytes(freehold, bytes, facts.name, signal));
    const model = await describeStored(freehold, blobs, facts);
    const descriptor = describePackage({
      name: facts.name,
      version: IMPORT_VERSION,
      variant: model.quantization.toLowerCase(),
      license: facts.license ?? licenseExpression(model.license),
      ...(facts.description === undefined ? {} : { description: facts.description }),
      ...(facts.parameters === undefined ? {} : { parameters: facts.parameters }),
      model,
      files: [...(facts.documents ?? []), ...weightsFiles(blobs, model, facts)],
    });
    const { privateKey } = await freehold.home.ensureHomeSigner();
    const signed = await writeSigned(freehold, descriptor, [], privateKey);
    requireLocked(fullReference(descriptor), signed.contentDigest, options);
    return addVerified(freehold, descriptor, signed.signatures, [privateKey.publicKey], options).catch(
      (error: unknown) => {
        throw namingConflict(error, facts.name);
      },
    );
  });
}

/** @throws LOCK_MISMATCH when a lock pins other content */
function requireLocked(reference: string, contentDigest: string, { expect }: ImportOptions): void {
  const expected = expect?.contentDigest;
  if (expected === undefined || expected === contentDigest) return;
  throw contentMismatch(`${reference} has`, contentDigest, expected);
}

async function storeBytes(
  { store, progress }: Freehold,
  bytes: ImportedBytes,
  name: string,
  signal: AbortSignal,
): Promise<BlobReference> {
  if (bytes.kind === 'stored') return bytes;
  const { digest, sizeBytes } = bytes;
  const label = `import ${name}`;
  return store.importFile(bytes.path, {
    how:
      bytes.kind === 'cached'
        ? { kind: 'move-from-cache', ownCacheFolder: path.dirname(bytes.path) }
        : { kind: 'reflink-or-copy' },
    expect: {
      ...(digest === undefined ? {} : { digest }),
      ...(sizeBytes === undefined ? {} : { sizeBytes }),
    },
    signal,
    onBytes: (doneBytes) => {
      if (sizeBytes !== undefined) progress({ kind: 'bytes-moved', label, doneBytes, totalBytes: sizeBytes });
    },
  });
}

/** From the store, not from where the bytes were: what is described is what was hashed. */
async function describeStored(
  { store }: Freehold,
  blobs: readonly BlobReference[],
  facts: GgufFacts,
): Promise<GgufDescription> {
  const headers: GgufFile[] = [];
  for (const [index, { digest }] of blobs.entries()) {
    const source = await store.blobs.open(digest);
    const part = blobs.length === 1 ? '' : ` file ${index + 1} of ${blobs.length}`;
    try {
      headers.push(await readGguf(source, `${facts.name}${part}`));
    } finally {
      await source.close();
    }
  }
  return verifyModelGguf(headers);
}

function weightsFiles(
  blobs: readonly BlobReference[],
  model: GgufDescription,
  facts: GgufFacts,
): PackageFile[] {
  return blobs.map(({ digest, sizeBytes }, index) => ({
    path:
      facts.weightsName ??
      weightsFileName(shortName(facts.name), model.quantization, index + 1, blobs.length),
    role: 'weights',
    size: sizeBytes,
    digest,
  }));
}

/** What identifies an import before its bytes are there. */
export interface ImportIdentity {
  /** Package name. */
  readonly name: string;
  /** Of all weights files; none: not known before they are there. */
  readonly digests: readonly Digest[];
}

/**
 * Runs `work` unless the package is installed already with these weights, and sound; one process at a time for each name,
 * since a file leaves the cache when it is imported: a second install would fetch it once more, or lose it on the way.
 */
export async function installOnce(
  freehold: Freehold,
  identity: ImportIdentity,
  options: ImportOptions,
  work: () => Promise<InstallResult>,
): Promise<InstallResult> {
  const { signal } = options;
  const { name, digests } = identity;
  const existing = await findInstalledWeights(freehold, identity, options);
  if (existing !== undefined) return existing;
  const cacheFolder = await freehold.home.folder('cache');
  const label = `another process that installs ${name}`;
  return withFileLock(
    path.join(cacheFolder, `${name.replace('/', '.')}.lock`),
    'exclusive',
    Number.POSITIVE_INFINITY,
    async () => {
      const meanwhile = await findInstalledWeights(freehold, identity, options);
      if (meanwhile !== undefined) return meanwhile;
      const installed = await work();
      // With known digests an entry that was there was over damaged files: these are new.
      return digests.length === 0 ? installed : { ...installed, isNew: true };
    },
    { signal, onWait: () => freehold.progress({ kind: 'step-started', label }) },
  );
}

/** The model as it is installed already, if it is sound; a damaged one is installed anew. */
async function findInstalledWeights(
  freehold: Freehold,
  { name, digests }: ImportIdentity,
  options: ImportOptions,
): Promise<InstallResult | undefined> {
  if (digests.length === 0) return undefined;
  for (const item of installedPackages(await freehold.store.entries())) {
    if (item.name !== name) continue;
    const sound = await soundWeights(freehold, item, digests, options.signal);
    if (!sound) continue;
    requireLocked(fullReference(item), item.contentDigest, options);
    return { ...item, isNew: false };
  }
  return undefined;
}

async function soundWeights(
  freehold: Freehold,
  item: InstalledPackage,
  digests: readonly Digest[],
  signal: AbortSignal,
): Promise<boolean> {
  try {
    const { descriptor } = await verifyInstalled(freehold, item);
    const present = new Set(descriptor.files.map((file) => file.digest));
    if (!digests.every((digest) => present.has(digest))) return false;
    await verifyVersionIndex(freehold, item);
    await verifyFiles(freehold, descriptor.files, 'warm', signal);
    return true;
  } catch {
    signal.throwIfAborted();
    return false;
  }
}

/** The name is taken by another model: what to do about it. */
function namingConflict(thrown: unknown, name: string): unknown {
  const isConflict = thrown instanceof FreeholdError && thrown.code === 'ALREADY_EXISTS';
  if (!isConflict || !name.startsWith(`${LOCAL_NAMESPACE}/`)) return thrown;
  return new FreeholdError('ALREADY_EXISTS', thrown.message, {
    cause: thrown.cause,
    hint: `install it under another name with --name NAME, or remove the old one first: freehold remove ${name}`,
    detail: thrown.detail,
  });
}
