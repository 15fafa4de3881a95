import type { BlobStore } from '../base/blob-store.ts';
import type { Digest } from '../base/digest.ts';
import { FreeholdError, namingFile } from '../base/errors.ts';
import { parseStrictJson } from '../base/strict-json.ts';
import type { Fingerprint } from '../crypto/keys.ts';
import {
  BUNDLE_BYTES_MAX,
  contentDigest,
  parseModelSignature,
  requireSameFiles,
  SIGNATURE_PATHS,
  type SignedResource,
  type UntrustedModelSignature,
  verifyModelSignature,
} from '../crypto/model-signing.ts';
import { decideTrust, requireTrusted, type TrustPolicy } from '../crypto/trust-policy.ts';
import { encodePackage, type SignatureFile } from './modelpack.ts';
import {
  CONFIG_BYTES_MAX,
  JSON_DEPTH_MAX,
  layerPath,
  MANIFEST_BYTES_MAX,
  type ModelManifest,
  type OciDescriptor,
  parseModelManifest,
} from './oci.ts';
import {
  DESCRIPTOR_BYTES_MAX,
  DESCRIPTOR_PATH,
  type PackageDescriptor,
  parsePackageDescriptor,
} from './package-descriptor.ts';

/** Reads documents by digest and checks their digest; every BlobStore is one. */
export type DocumentSource = Pick<BlobStore, 'readAll'>;

/** A package as it lies there: consistent in itself, its signature not looked at. */
export interface UnverifiedPackage {
  readonly manifestDigest: Digest;
  readonly manifest: ModelManifest;
  readonly descriptor: PackageDescriptor;
  readonly signatures: readonly SignatureFile[];
  /** What a signature over this package must cover. */
  readonly signedFiles: readonly SignedResource[];
  readonly contentDigest: Digest;
}

export interface PackageSigner {
  /** `model.sig`, `model.2.sig`, … */
  readonly path: string;
  readonly fingerprint: Fingerprint;
  /** The pattern of the trust rule that accepted the key. */
  readonly trustedFor: string;
}

/** What verification proved. The bytes of weights and documents still have to be compared with `descriptor.files`. */
export interface VerifiedPackage extends UnverifiedPackage {
  /** At least one. */
  readonly signers: readonly PackageSigner[];
}

/**
 * Reads a package without its signature: for building, signing and showing, never for use.
 * Manifest, config and annotations must be exactly what the descriptor says, so an edited manifest is refused here.
 * @throws MANIFEST_INVALID, PACKAGE_INVALID, DIGEST_MISMATCH, NOT_FOUND naming the file
 */
export async function readPackage(
  source: DocumentSource,
  manifestDigest: Digest,
): Promise<UnverifiedPackage> {
  const manifestBytes = await readNamed(source, manifestDigest, MANIFEST_BYTES_MAX, 'the manifest');
  const manifest = parseModelManifest(manifestBytes);
  const descriptorLayer = layerNamed(manifest, DESCRIPTOR_PATH);
  if (descriptorLayer === undefined) {
    throw new FreeholdError('PACKAGE_INVALID', `the package has no ${DESCRIPTOR_PATH}`, {
      hint: 'it was not made by freehold build',
    });
  }
  const descriptorBytes = await readNamed(
    source,
    descriptorLayer.digest,
    DESCRIPTOR_BYTES_MAX,
    DESCRIPTOR_PATH,
  );
  const descriptor = parsePackageDescriptor(descriptorBytes);
  const signatures = signatureFiles(manifest);
  const expected = encodePackage(descriptor, signatures);
  requireEqualBytes(descriptorBytes, expected.descriptor.bytes, DESCRIPTOR_PATH);
  requireEqualDocument(manifest, expected.manifest.bytes, 'the manifest');
  const configBytes = await readNamed(source, manifest.config.digest, CONFIG_BYTES_MAX, 'the config');
  requireEqualDocument(parseDocument(configBytes, 'the config'), expected.config.bytes, 'the config');
  const files = signedFiles(descriptor, descriptorLayer.digest);
  return {
    manifestDigest,
    manifest,
    descriptor,
    signatures,
    signedFiles: files,
    contentDigest: contentDigest(files),
  };
}

/**
 * Verifies a package under a trust policy: at least one signature by a key that is trusted for the package's name, over
 * exactly the files that the descriptor lists. Further signatures by unknown keys prove nothing and do no harm.
 * @throws SIGNATURE_MISSING, SIGNER_UNTRUSTED, SIGNATURE_INVALID, SIGNATURE_MALFORMED, and whatever `readPackage` throws
 */
export async function verifyPackage(
  source: DocumentSource,
  manifestDigest: Digest,
  policy: TrustPolicy,
): Promise<VerifiedPackage> {
  const read = await readPackage(source, manifestDigest);
  const { descriptor } = read;
  if (read.signatures.length === 0) {
    throw new FreeholdError('SIGNATURE_MISSING', `${descriptor.name} ${descriptor.version} is not signed`);
  }
  const parsed = await readBundles(source, read.signatures);
  const trusted = parsed.filter(
    (signature) => decideTrust(policy, descriptor.name, signature.keyFingerprint).kind === 'trusted',
  );
  const [candidate] = trusted.length > 0 ? trusted : parsed;
  if (candidate === undefined)
    throw new FreeholdError('SIGNATURE_MISSING', `${descriptor.name} is not signed`);
  // Throws when nobody is trusted; the message speaks of the first signature.
  requireTrusted(policy, descriptor.name, candidate.keyFingerprint);
  const signers = trusted.map((signature) => verifyOne(signature, policy, descriptor.name, read.signedFiles));
  return { ...read, signers };
}

/** The signatures that this version can verify, unverified. @throws SIGNATURE_UNSUPPORTED when there is none */
async function readBundles(
  source: DocumentSource,
  signatures: readonly SignatureFile[],
): Promise<UntrustedModelSignature[]> {
  const parsed: UntrustedModelSignature[] = [];
  let unsupported: FreeholdError | undefined;
  for (const { path, digest, sizeBytes } of signatures) {
    const bytes = await readNamed(source, digest, BUNDLE_BYTES_MAX, path);
    if (bytes.byteLength !== sizeBytes) {
      throw new FreeholdError(
        'SIZE_MISMATCH',
        `${path} has ${bytes.byteLength} bytes, the manifest says ${sizeBytes}`,
        { detail: { file: path, expected: sizeBytes, actual: bytes.byteLength } },
      );
    }
    try {
      parsed.push(parseModelSignature(bytes, path));
    } catch (error) {
      // A co-signature by another method must not keep the package from those who trust the key.
      if (!(error instanceof FreeholdError) || error.code !== 'NOT_SUPPORTED') throw error;
      unsupported ??= error;
    }
  }
  if (parsed.length === 0 && unsupported !== undefined) {
    throw new FreeholdError('SIGNATURE_UNSUPPORTED', unsupported.message, { cause: unsupported });
  }
  return parsed;
}

function verifyOne(
  signature: UntrustedModelSignature,
  policy: TrustPolicy,
  name: string,
  files: readonly SignedResource[],
): PackageSigner {
  const { rule, key } = requireTrusted(policy, name, signature.keyFingerprint);
  requireSameFiles(verifyModelSignature(signature, key), files);
  return { path: signature.label, fingerprint: key.fingerprint, trustedFor: rule.pattern };
}

/** Every file that a signature covers: `freehold.json` and the files that it lists. */
export function signedFiles(descriptor: PackageDescriptor, descriptorFileDigest: Digest): SignedResource[] {
  return [
    { name: DESCRIPTOR_PATH, digest: descriptorFileDigest },
    ...descriptor.files.map((file) => ({ name: file.path, digest: file.digest })),
  ];
}

function layerNamed(manifest: ModelManifest, path: string): OciDescriptor | undefined {
  return manifest.layers.find((layer) => layerPath(layer) === path);
}

/** Signature layers; that they stand in their order is checked with the rest of the manifest. */
function signatureFiles(manifest: ModelManifest): SignatureFile[] {
  const files = manifest.layers.flatMap((layer) => {
    const path = layerPath(layer);
    if (path === undefined || !SIGNATURE_PATHS.includes(path)) return [];
    return [{ path, digest: layer.digest, sizeBytes: layer.size }];
  });
  if (new Set(files.map((file) => file.path)).size !== files.length) {
    throw new FreeholdError('PACKAGE_INVALID', 'the manifest lists a signature file twice');
  }
  return files;
}

/** Reads a document by digest; a refusal names it. @throws whatever the source throws */
export async function readNamed(
  source: DocumentSource,
  digest: Digest,
  bytesMax: number,
  name: string,
): Promise<Buffer> {
  try {
    return await source.readAll(digest, bytesMax);
  } catch (error) {
    throw namingFile(error, name);
  }
}

function parseDocument(bytes: Uint8Array, label: string): unknown {
  return parseStrictJson(bytes, {
    bytesMax: CONFIG_BYTES_MAX,
    depthMax: JSON_DEPTH_MAX,
    code: 'MANIFEST_INVALID',
    label,
  });
}

function requireEqualBytes(actual: Uint8Array, expected: Uint8Array, label: string): void {
  if (Buffer.compare(actual, expected) === 0) return;
  throw new FreeholdError('PACKAGE_INVALID', `${label} is not in its canonical form`, {
    detail: { file: label },
  });
}

/**
 * Compares values, not bytes: a tool that writes the same JSON with other blanks or key order changes no meaning.
 * @throws PACKAGE_INVALID
 */
function requireEqualDocument(actual: unknown, expectedBytes: Buffer, label: string): void {
  const path = firstDifference(actual, parseDocument(expectedBytes, label), '');
  if (path === undefined) return;
  throw new FreeholdError(
    'PACKAGE_INVALID',
    `${label} disagrees with ${DESCRIPTOR_PATH} at ${path || 'its root'}`,
    {
      detail: { file: label, path },
    },
  );
}

/** The path of the first difference of two JSON values, or undefined when they are equal. */
function firstDifference(left: unknown, right: unknown, path: string): string | undefined {
  if (left === right) return undefined;
  if (typeof left !== 'object' || typeof right !== 'object' || left === null || right === null) return path;
  if (Array.isArray(left) !== Array.isArray(right)) return path;
  const keys = new Set([...Object.keys(left), ...Object.keys(right)]);
  for (const key of keys) {
    const inner = path === '' ? key : `${path}.${key}`;
    if (!Object.hasOwn(left, key) || !Object.hasOwn(right, key)) return inner;
    const difference = firstDifference(Reflect.get(left, key), Reflect.get(right, key), inner);
    if (difference !== undefined) return difference;
  }
  return undefined;
}
