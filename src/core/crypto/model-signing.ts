import { z } from 'zod';
import type { Digest } from '../base/digest.ts';
import { FreeholdError } from '../base/errors.ts';
import { quoted } from '../base/ids.ts';
import { parseStrictJson } from '../base/strict-json.ts';
import {
  type DsseEnvelope,
  encodeEnvelope,
  malformed,
  parseEnvelope,
  parseShape,
  signEnvelope,
  verifyEnvelope,
} from './dsse.ts';
import { type Fingerprint, isFingerprint, type PrivateKey, type PublicKey } from './keys.ts';
import {
  contentDigest,
  encodeModelStatement,
  IN_TOTO_PAYLOAD_TYPE,
  type ModelStatement,
  parseModelStatement,
  type SignedResource,
  unsupported,
} from './model-statement.ts';

export { contentDigest, type SignedResource } from './model-statement.ts';

/** The media type of a bundle, also the artifact type of a referrer that carries one. */
export const BUNDLE_MEDIA_TYPE = 'application/vnd.dev.sigstore.bundle.v0.3+json';
const BUNDLE_MEDIA_TYPE_FAMILY = 'application/vnd.dev.sigstore.bundle';

/** The signature bundle of a package and up to three co-signatures: no signature covers any of them. */
export const SIGNATURE_PATHS: readonly string[] = ['model.sig', 'model.2.sig', 'model.3.sig', 'model.4.sig'];

/**
 * What `model_signing` leaves out without being asked (§6.2). None of them can be in a package, whose file names do
 * not begin with a dot, and `requireSameFiles` refuses them in a folder.
 */
const GIT_PATHS: readonly string[] = ['.git', '.gitignore', '.gitattributes', '.github'];

/** The largest statement in base64, and the rest. */
export const BUNDLE_BYTES_MAX = 3 << 19;
/** Bundle, envelope, signatures, certificates and inclusion proofs need eight. */
const JSON_DEPTH_MAX = 16;

/** A bundle whose structure was read and whose signature was not: nothing in it may be believed yet. */
export interface UntrustedModelSignature {
  readonly kind: 'untrusted-model-signature';
  /** Where it comes from, for messages: `model.sig`. */
  readonly label: string;
  /** Which key the bundle claims to be signed with: good for looking that key up, proves nothing. */
  readonly keyFingerprint: Fingerprint;
  readonly envelope: DsseEnvelope;
  readonly statement: ModelStatement;
}

/** What a verified signature says. */
export interface ModelSignatureEvidence {
  readonly kind: 'verified-model-signature';
  readonly label: string;
  readonly keyFingerprint: Fingerprint;
  readonly resources: readonly SignedResource[];
  /** Equal for all signatures over the same files, unlike `subjectDigest`, which follows the signer's file order. */
  readonly contentDigest: Digest;
  readonly subjectDigest: Digest;
  readonly subjectName: string;
  readonly ignorePaths: readonly string[];
}

export interface SignModelOptions {
  /** Informational name of what is signed: the package's short name. */
  readonly subjectName: string;
  /** All files of the package, except the signature bundles. */
  readonly resources: readonly SignedResource[];
  readonly privateKey: PrivateKey;
}

/**
 * Signs a set of files as OpenSSF Model Signing v1.0 with method `key`. ECDSA is randomised: two calls give two
 * bundles over the same content digest.
 * @returns the bytes of a Sigstore bundle v0.3, which were verified once
 * @throws SIGNATURE_MALFORMED or SIGNATURE_INVALID for file names that a verifier would refuse
 */
export function signModel({ subjectName, resources, privateKey }: SignModelOptions): Buffer {
  const statement = encodeModelStatement(subjectName, resources, SIGNATURE_PATHS);
  const envelope = signEnvelope(IN_TOTO_PAYLOAD_TYPE, statement, privateKey);
  const bundle = {
    mediaType: BUNDLE_MEDIA_TYPE,
    verificationMaterial: { publicKey: { hint: privateKey.publicKey.fingerprint }, tlogEntries: [] },
    dsseEnvelope: encodeEnvelope(envelope),
  };
  const bytes = Buffer.from(JSON.stringify(bundle));
  // What we would refuse must not leave; this also notices a key file whose two halves do not belong together.
  verifyModelSignature(parseModelSignature(bytes, 'the new signature'), privateKey.publicKey);
  return bytes;
}

const certificateSchema = z.strictObject({ rawBytes: z.string().min(1) });

/** Sigstore bundle v0.3, `VerificationMaterial`: exactly one of the first three says which method signed. */
const materialSchema = z.strictObject({
  publicKey: z
    .strictObject({
      hint: z.string().optional(),
      rawBytes: z.string().optional(),
      keyDetails: z.string().optional(),
    })
    .optional(),
  x509CertificateChain: z.strictObject({ certificates: z.array(certificateSchema).min(1) }).optional(),
  certificate: certificateSchema.optional(),
  tlogEntries: z.array(z.unknown()).optional(),
  timestampVerificationData: z.unknown().optional(),
});

const bundleSchema = z.strictObject({
  mediaType: z.string(),
  verificationMaterial: materialSchema,
  dsseEnvelope: z.unknown(),
});

/**
 * First step: reads the structure of a bundle, so that its key can be looked up in the trust policy.
 * @throws SIGNATURE_MALFORMED; NOT_SUPPORTED for well-formed signatures of other methods, by name
 */
export function parseModelSignature(bytes: Uint8Array, label: string): UntrustedModelSignature {
  const json = parseStrictJson(bytes, {
    label,
    code: 'SIGNATURE_MALFORMED',
    bytesMax: BUNDLE_BYTES_MAX,
    depthMax: JSON_DEPTH_MAX,
  });
  const bundle = parseShape(bundleSchema, json, label);
  if (bundle.mediaType !== BUNDLE_MEDIA_TYPE) {
    const what = `${label}: bundle of media type ${quoted(bundle.mediaType)}`;
    throw bundle.mediaType.startsWith(BUNDLE_MEDIA_TYPE_FAMILY)
      ? unsupported(what)
      : malformed(`${what}, it must be ${BUNDLE_MEDIA_TYPE}`);
  }
  const keyFingerprint = keyFingerprintOf(bundle.verificationMaterial, label);
  const envelope = parseEnvelope(bundle.dsseEnvelope, IN_TOTO_PAYLOAD_TYPE, `${label}: dsseEnvelope`);
  const statement = parseModelStatement(envelope.payload, label);
  return { kind: 'untrusted-model-signature', label, keyFingerprint, envelope, statement };
}

/** §4.1: which method signed. Only `key` goes on; the others must at least be well-formed to be called by their name. */
function keyFingerprintOf(material: z.infer<typeof materialSchema>, label: string): Fingerprint {
  const {
    publicKey,
    x509CertificateChain,
    certificate,
    tlogEntries = [],
    timestampVerificationData,
  } = material;
  const methods = [publicKey, x509CertificateChain, certificate].filter((method) => method !== undefined);
  if (methods.length !== 1) {
    throw malformed(
      `${label}: verificationMaterial has ${methods.length} of publicKey, x509CertificateChain and certificate, it must have one`,
    );
  }
  if (x509CertificateChain !== undefined) throw unsupported(`${label}: signing method "certificate"`);
  if (publicKey === undefined) {
    if (tlogEntries.length === 0) throw malformed(`${label}: signing method "sigstore" without tlogEntries`);
    throw unsupported(`${label}: signing method "sigstore"`);
  }
  if (publicKey.rawBytes !== undefined || publicKey.keyDetails !== undefined) {
    throw unsupported(`${label}: a public key inside of the bundle (model_signing before 1.1)`);
  }
  // Both would be unsigned bytes that nobody checks.
  if (tlogEntries.length > 0) throw unsupported(`${label}: a transparency log entry beside a public key`);
  if (timestampVerificationData !== undefined) throw unsupported(`${label}: a timestamp beside a public key`);
  if (publicKey.hint === undefined || !isFingerprint(publicKey.hint)) {
    throw malformed(`${label}: verificationMaterial.publicKey.hint is not the SHA-256 of a key`);
  }
  return publicKey.hint;
}

/**
 * Second step: verifies the signature with a key that the trust policy accepts for this package. Says nothing about
 * any file yet: `requireSameFiles` does.
 * @throws SIGNATURE_INVALID; also when the signature leaves out files that a package can have (`ignore_paths` is the
 *   signer's wish, and honouring it would let a file ride along unsigned)
 */
export function verifyModelSignature(
  signature: UntrustedModelSignature,
  key: PublicKey,
): ModelSignatureEvidence {
  const { label, keyFingerprint, envelope, statement } = signature;
  if (keyFingerprint !== key.fingerprint) {
    throw new FreeholdError(
      'SIGNATURE_INVALID',
      `${label}: signed with key ${keyFingerprint}, not ${key.fingerprint}`,
    );
  }
  verifyEnvelope(envelope, key, label);
  const { resources, subjectDigest, subjectName, ignorePaths } = statement;
  const hidden = ignorePaths.find((path) => !SIGNATURE_PATHS.includes(path) && !GIT_PATHS.includes(path));
  if (hidden !== undefined) {
    throw new FreeholdError('SIGNATURE_INVALID', `${label}: the signature leaves out ${quoted(hidden)}`, {
      hint: 'sign again without --ignore-paths, with the signature written to model.sig in the folder',
      detail: { file: label, ignored: hidden },
    });
  }
  requireNotIgnored(resources, ignorePaths, label);
  return {
    kind: 'verified-model-signature',
    label,
    keyFingerprint,
    resources,
    contentDigest: contentDigest(resources),
    subjectDigest,
    subjectName,
    ignorePaths,
  };
}

/** A file both signed and ignored: one verifier would check it, the next would not. */
function requireNotIgnored(
  resources: readonly SignedResource[],
  ignorePaths: readonly string[],
  label: string,
): void {
  for (const { name } of resources) {
    const ignored = ignorePaths.find((path) => name === path || name.startsWith(`${path}/`));
    if (ignored !== undefined) {
      throw new FreeholdError('SIGNATURE_INVALID', `${label}: ${quoted(name)} is signed and ignored at once`);
    }
  }
}

/**
 * The files at hand must be exactly those that were signed: none more, none less, each with its digest.
 * @param files all files of the package except the bundles at `SIGNATURE_PATHS`, with digests of their real bytes
 * @throws DIGEST_MISMATCH for an altered file; SIGNATURE_INVALID for a missing, additional or doubled one, naming it
 */
export function requireSameFiles(evidence: ModelSignatureEvidence, files: readonly SignedResource[]): void {
  const { label } = evidence;
  const unseen = new Map(evidence.resources.map(({ name, digest }) => [name, digest]));
  for (const { name, digest } of files) {
    const signed = unseen.get(name);
    if (signed === undefined) {
      throw new FreeholdError('SIGNATURE_INVALID', `${label} does not cover ${quoted(name)}`, {
        detail: { file: name },
      });
    }
    if (signed !== digest) {
      throw new FreeholdError(
        'DIGEST_MISMATCH',
        `${quoted(name)} was altered: ${digest}, signed is ${signed}`,
        {
          detail: { file: name, expected: signed, actual: digest },
        },
      );
    }
    unseen.delete(name);
  }
  const [missing] = unseen.keys();
  if (missing !== undefined) {
    throw new FreeholdError('SIGNATURE_INVALID', `${quoted(missing)} is missing, and ${label} covers it`, {
      detail: { file: missing },
    });
  }
}
