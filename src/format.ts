// The package format: descriptors, manifests, model.yaml and GGUF headers, without I/O.
export { type ByteSource, memoryByteSource } from './core/base/byte-source.ts';
export { Digest } from './core/base/digest.ts';
export { FreeholdError } from './core/base/errors.ts';
export { parseReference, type Reference } from './core/base/reference.ts';
export { describeGguf, type GgufDescription } from './core/format/gguf/gguf-description.ts';
export { readGguf } from './core/format/gguf/gguf-reader.ts';
export type { GgufFile } from './core/format/gguf/gguf-types.ts';
export { verifyModelGguf } from './core/format/gguf/gguf-verification.ts';
export { type ModelPlan, parseModelYaml } from './core/format/model-yaml.ts';
export {
  type EncodedPackage,
  encodePackage,
  encodeVersionIndex,
  type SignatureFile,
} from './core/format/modelpack.ts';
export { ANNOTATION, MEDIA_TYPE, parseModelManifest, parseVersionIndex } from './core/format/oci.ts';
export {
  encodePackageDescriptor,
  type PackageDescriptor,
  type PackageFile,
  parsePackageDescriptor,
} from './core/format/package-descriptor.ts';
