import type { Digest } from '../../core/base/digest.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import { shortName } from '../../core/base/ids.ts';
import { parseReference } from '../../core/base/reference.ts';
import type { Fingerprint, PrivateKey } from '../../core/crypto/keys.ts';
import {
  BUNDLE_BYTES_MAX,
  parseModelSignature,
  SIGNATURE_PATHS,
  signModel,
} from '../../core/crypto/model-signing.ts';
import { encodePackage, type SignatureFile } from '../../core/format/modelpack.ts';
import type { PackageDescriptor } from '../../core/format/package-descriptor.ts';
import { readPackage, signedFiles } from '../../core/format/package-verification.ts';
import type { Freehold } from './freehold.ts';
import { fullReference, HELD_ANNOTATION, installedPackages, selectInstalled } from './installed-packages.ts';
import {
  updateVersions,
  type VersionChange,
  type WrittenPackage,
  withVariant,
  writePackage,
} from './package-writer.ts';

export interface SignedPackage {
  readonly reference: string;
  readonly contentDigest: Digest;
  readonly manifestDigest: Digest;
  readonly fingerprint: Fingerprint;
}

/**
 * Signs every variant that the reference means with one of the home's keys. A signature by the same key is replaced,
 * others stay as co-signatures.
 * @throws MODEL_NOT_FOUND, NOT_FOUND for the key, ALREADY_EXISTS when there is no room for a further signature
 */
export async function signPackages(
  freehold: Freehold,
  text: string,
  keyName: string,
  signal: AbortSignal,
): Promise<SignedPackage[]> {
  const { store } = freehold;
  const { privateKey: key } = await freehold.home.keys.load(keyName);
  const signed: SignedPackage[] = [];
  await store.withLease(async () => {
    const chosen = selectInstalled(installedPackages(await store.entries()), parseReference(text), text);
    const changes: VersionChange[] = [];
    for (const item of chosen) {
      signal.throwIfAborted();
      const { descriptor, signatures } = await readPackage(store.blobs, item.manifestDigest);
      const written = await writeSigned(freehold, descriptor, signatures, key);
      const { name, version } = descriptor;
      // What is held back does not come into use by being signed.
      const held = item.held === undefined ? {} : { [HELD_ANNOTATION]: item.held };
      const entry = { ...written.entry, annotations: { ...written.entry.annotations, ...held } };
      changes.push({ name, version, change: (variants) => withVariant(variants, entry) });
      signed.push({
        reference: fullReference(item),
        contentDigest: written.contentDigest,
        manifestDigest: written.manifestDigest,
        fingerprint: key.publicKey.fingerprint,
      });
    }
    await updateVersions(store, changes);
  });
  return signed;
}

/** Adds a signature to a package whose files are in the store; the entry is the caller's to list. */
export async function writeSigned(
  freehold: Freehold,
  descriptor: PackageDescriptor,
  existing: readonly SignatureFile[],
  key: PrivateKey,
): Promise<WrittenPackage> {
  const { blobs } = freehold.store;
  const { digest } = encodePackage(descriptor).descriptor;
  const bundle = signModel({
    subjectName: shortName(descriptor.name),
    resources: signedFiles(descriptor, digest),
    privateKey: key,
  });
  const info = await blobs.write(bundle);
  const slots = new Map<string, { file: SignatureFile; fingerprint: Fingerprint | undefined }>();
  for (const file of existing) {
    const bytes = await blobs.readAll(file.digest, BUNDLE_BYTES_MAX);
    slots.set(file.path, { file, fingerprint: signerOf(bytes, file.path) });
  }
  const { fingerprint } = key.publicKey;
  const path =
    SIGNATURE_PATHS.find((candidate) => slots.get(candidate)?.fingerprint === fingerprint) ??
    SIGNATURE_PATHS.find((candidate) => !slots.has(candidate));
  if (path === undefined) {
    throw new FreeholdError(
      'ALREADY_EXISTS',
      `${descriptor.name} has ${SIGNATURE_PATHS.length} signatures already`,
      {
        hint: 'a package carries at most four',
      },
    );
  }
  slots.set(path, { file: { path, digest: info.digest, sizeBytes: info.sizeBytes }, fingerprint });
  const ordered = SIGNATURE_PATHS.flatMap((candidate) => slots.get(candidate) ?? []);
  return writePackage(
    blobs,
    descriptor,
    ordered.map((slot) => slot.file),
    ordered.flatMap((slot) => slot.fingerprint ?? []),
  );
}

/** @returns undefined for a signature by another method than a key: it stays where it is */
function signerOf(bundle: Buffer, path: string): Fingerprint | undefined {
  try {
    return parseModelSignature(bundle, path).keyFingerprint;
  } catch (error) {
    if (error instanceof FreeholdError && error.code === 'NOT_SUPPORTED') return undefined;
    throw error;
  }
}
