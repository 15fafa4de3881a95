// Writes spec/vectors/packages.json: small packages that are good, or bad in exactly one way, with the expected outcome.
// Signatures are randomised, so running it again gives other bytes with the same outcomes. Run: node scripts/package-vectors.ts
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { Digest } from '../src/core/base/digest.ts';
import { generatePrivateKey, type PrivateKey } from '../src/core/crypto/keys.ts';
import { contentDigest, signModel } from '../src/core/crypto/model-signing.ts';
import { encodePackage, type SignatureFile } from '../src/core/format/modelpack.ts';
import { ANNOTATION, encodeJson, parseModelManifest } from '../src/core/format/oci.ts';
import type { PackageDescriptor } from '../src/core/format/package-descriptor.ts';
import { signedFiles } from '../src/core/format/package-verification.ts';

interface Vector {
  readonly name: string;
  /** `success`, or the code of the error. */
  readonly expect: string;
  readonly manifestDigest: string;
  /** Every blob: digest to bytes in base64. A blob may be wrong on purpose. */
  readonly blobs: Record<string, string>;
  readonly trust: { pattern: string; keys: string[] }[];
}

const publisher = generatePrivateKey();
const stranger = generatePrivateKey();
const weights = Buffer.from('stand-in for weights: verification does not look inside\n');
const licence = Buffer.from('All rights reserved.\n');

const descriptor: PackageDescriptor = {
  schemaVersion: 1,
  kind: 'model',
  name: 'acme/triage',
  version: '1.4.0',
  variant: 'q8_0',
  license: 'LicenseRef-Acme-Commercial',
  description: 'Sorts patient messages by urgency. Not a medical device.',
  model: {
    format: 'gguf',
    architecture: 'llama',
    purpose: 'generate',
    parameterCount: 134515008,
    contextTokens: 2048,
    quantization: 'Q8_0',
  },
  engine: { name: 'llama.cpp' },
  memoryBytes: 412000000,
  protection: { sealed: false },
  parameters: { stop: ['<|im_end|>'], temperature: 0 },
  files: [
    { path: 'LICENSE', role: 'doc', size: licence.byteLength, digest: Digest.of(licence) },
    { path: 'triage-q8_0.gguf', role: 'weights', size: weights.byteLength, digest: Digest.of(weights) },
  ],
};

function signatureOver(subject: PackageDescriptor, key: PrivateKey): Buffer {
  const { digest } = encodePackage(subject).descriptor;
  return signModel({ subjectName: 'triage', resources: signedFiles(subject, digest), privateKey: key });
}

function build(subject: PackageDescriptor, bundles: readonly Buffer[]) {
  const signatures = bundles.map(
    (bytes, index): SignatureFile => ({
      path: index === 0 ? 'model.sig' : `model.${index + 1}.sig`,
      digest: Digest.of(bytes),
      sizeBytes: bytes.byteLength,
    }),
  );
  const encoded = encodePackage(subject, signatures);
  const blobs = new Map<string, Buffer>();
  for (const bytes of [weights, licence, ...bundles]) blobs.set(Digest.of(bytes), bytes);
  for (const document of [encoded.descriptor, encoded.config, encoded.manifest])
    blobs.set(document.digest, document.bytes);
  return { encoded, blobs };
}

const trusted = [{ pattern: 'acme/*', keys: [publisher.publicKey.pem] }];

function vector(
  name: string,
  expect: string,
  manifestDigest: string,
  blobs: ReadonlyMap<string, Buffer>,
  trust = trusted,
): Vector {
  const encoded = [...blobs].map(([digest, bytes]) => [digest, bytes.toString('base64')] as const);
  return { name, expect, manifestDigest, blobs: Object.fromEntries(encoded), trust };
}

const good = build(descriptor, [signatureOver(descriptor, publisher)]);
const unsigned = build(descriptor, []);
const coSigned = build(descriptor, [
  signatureOver(descriptor, stranger),
  signatureOver(descriptor, publisher),
]);
const foreign = build(descriptor, [signatureOver({ ...descriptor, version: '1.3.0' }, publisher)]);
/** A well-formed bundle of another method: real certificates are long, and verification stops before it reads them. */
const certified = Buffer.from(
  JSON.stringify({
    ...JSON.parse(signatureOver(descriptor, publisher).toString('utf8')),
    verificationMaterial: { x509CertificateChain: { certificates: [{ rawBytes: 'MAA=' }] }, tlogEntries: [] },
  }),
);
const onlyCertified = build(descriptor, [certified]);
const alsoCertified = build(descriptor, [certified, signatureOver(descriptor, publisher)]);
const byStranger = build(descriptor, [signatureOver(descriptor, stranger)]);

/** The good package with its manifest edited by `edit`; everything else stays. */
function edited(edit: (manifest: Record<string, unknown>) => void, base = good) {
  const manifest: Record<string, unknown> = JSON.parse(base.encoded.manifest.bytes.toString('utf8'));
  edit(manifest);
  const bytes = encodeJson(manifest);
  return { digest: Digest.of(bytes), blobs: new Map([...base.blobs, [Digest.of(bytes), bytes]]) };
}

const renamed = edited((manifest) => {
  manifest.annotations = { ...(manifest.annotations as object), [ANNOTATION.name]: 'acme/other' };
});
const additional = edited((manifest) => {
  const { layers } = parseModelManifest(encodeJson(manifest));
  manifest.layers = [
    ...layers,
    { ...layers[1], annotations: { [ANNOTATION.title]: 'extra.bin', [ANNOTATION.filePath]: 'extra.bin' } },
  ];
});
const withSubject = edited((manifest) => {
  manifest.subject = manifest.config;
});
const swapped = edited((manifest) => {
  const { layers } = parseModelManifest(encodeJson(manifest));
  const [first, second, third, ...rest] = layers;
  manifest.layers = [
    first,
    { ...second, digest: third?.digest, size: third?.size },
    { ...third, digest: second?.digest, size: second?.size },
    ...rest,
  ];
});
/** One manifest has one order of bundles, and says how long each is. */
const misordered = edited((manifest) => {
  const layers = [...parseModelManifest(coSigned.encoded.manifest.bytes).layers];
  layers.push(...layers.splice(-2).reverse());
  manifest.layers = layers;
}, coSigned);
const missized = edited((manifest) => {
  const { layers } = parseModelManifest(encodeJson(manifest));
  manifest.layers = layers.map((layer, index) =>
    index === layers.length - 1 ? { ...layer, size: layer.size + 1 } : layer,
  );
});
const flippedDescriptor = new Map(good.blobs);
const flipped = Buffer.from(good.encoded.descriptor.bytes);
flipped[40] = (flipped[40] ?? 0) ^ 1;
flippedDescriptor.set(good.encoded.descriptor.digest, flipped);
const missingConfig = new Map(good.blobs);
missingConfig.delete(good.encoded.config.digest);

const goodDigest = good.encoded.manifest.digest;
const vectors: Vector[] = [
  vector('signed-and-trusted', 'success', goodDigest, good.blobs),
  vector('co-signed-by-a-stranger-first', 'success', coSigned.encoded.manifest.digest, coSigned.blobs),
  vector(
    'co-signed-by-another-method',
    'success',
    alsoCertified.encoded.manifest.digest,
    alsoCertified.blobs,
  ),
  vector(
    'signed-by-another-method-only',
    'SIGNATURE_UNSUPPORTED',
    onlyCertified.encoded.manifest.digest,
    onlyCertified.blobs,
  ),
  vector('exact-name-trusted', 'success', goodDigest, good.blobs, [
    { pattern: 'acme/triage', keys: [publisher.publicKey.pem] },
  ]),
  vector('unsigned', 'SIGNATURE_MISSING', unsigned.encoded.manifest.digest, unsigned.blobs),
  vector('nothing-trusted', 'SIGNER_UNTRUSTED', goodDigest, good.blobs, []),
  vector('trusted-for-another-publisher', 'SIGNER_UNTRUSTED', goodDigest, good.blobs, [
    { pattern: 'other/*', keys: [publisher.publicKey.pem] },
  ]),
  vector('pattern-is-anchored', 'SIGNER_UNTRUSTED', goodDigest, good.blobs, [
    { pattern: 'acme/tri', keys: [publisher.publicKey.pem] },
  ]),
  vector('signed-by-a-stranger', 'SIGNER_UNTRUSTED', byStranger.encoded.manifest.digest, byStranger.blobs),
  vector('signature-of-another-version', 'DIGEST_MISMATCH', foreign.encoded.manifest.digest, foreign.blobs),
  vector('descriptor-bit-flipped', 'DIGEST_MISMATCH', goodDigest, flippedDescriptor),
  vector('config-missing', 'FILE_MISSING', goodDigest, missingConfig),
  vector('annotation-edited', 'PACKAGE_INVALID', renamed.digest, renamed.blobs),
  vector('layer-added', 'PACKAGE_INVALID', additional.digest, additional.blobs),
  vector('layers-swapped', 'PACKAGE_INVALID', swapped.digest, swapped.blobs),
  vector('bundles-misordered', 'PACKAGE_INVALID', misordered.digest, misordered.blobs),
  vector('bundle-size-wrong', 'SIZE_MISMATCH', missized.digest, missized.blobs),
  vector('subject-added', 'MANIFEST_INVALID', withSubject.digest, withSubject.blobs),
];

const document = {
  description:
    'Packages for verification; see spec/PACKAGE.md. blobs: digest to base64. trust: the policy to verify under.',
  encoding: {
    descriptor: good.encoded.descriptor.bytes.toString('utf8'),
    config: unsigned.encoded.config.bytes.toString('utf8'),
    manifest: unsigned.encoded.manifest.bytes.toString('utf8'),
    descriptorDigest: unsigned.encoded.descriptor.digest,
    configDigest: unsigned.encoded.config.digest,
    manifestDigest: unsigned.encoded.manifest.digest,
    contentDigest: contentDigest(signedFiles(descriptor, unsigned.encoded.descriptor.digest)),
  },
  vectors,
};
const target = path.join(path.dirname(import.meta.dirname), 'spec', 'vectors', 'packages.json');
writeFileSync(target, `${JSON.stringify(document, null, 2)}\n`);
