// Verification of packages without files, network or native code: hand it something that reads blobs by digest.
export type { BlobInfo, BlobStore } from './core/base/blob-store.ts';
export { Digest } from './core/base/digest.ts';
export type { ErrorCode } from './core/base/error-table.ts';
export { FreeholdError } from './core/base/errors.ts';
export { type Fingerprint, formatFingerprint, type PublicKey, parsePublicKey } from './core/crypto/keys.ts';
export {
  type ModelSignatureEvidence,
  parseModelSignature,
  requireSameFiles,
  type SignedResource,
  verifyModelSignature,
} from './core/crypto/model-signing.ts';
export { parseTrustPattern, type TrustPolicy, trustPolicySchema } from './core/crypto/trust-policy.ts';
export {
  type DocumentSource,
  type PackageSigner,
  type VerifiedPackage,
  verifyPackage,
} from './core/format/package-verification.ts';
