import assert from 'node:assert/strict';
import { generateKeyPairSync, X509Certificate } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { Digest } from '../base/digest.ts';
import { FreeholdError } from '../base/errors.ts';
import { encodeEnvelope, signEnvelope } from './dsse.ts';
import { generatePrivateKey, type PrivateKey, parsePrivateKey, parsePublicKey } from './keys.ts';
import {
  BUNDLE_BYTES_MAX,
  contentDigest,
  type ModelSignatureEvidence,
  parseModelSignature,
  requireSameFiles,
  SIGNATURE_PATHS,
  type SignedResource,
  signModel,
  verifyModelSignature,
} from './model-signing.ts';
import { encodeModelStatement } from './model-statement.ts';

const key = generatePrivateKey();
const resource = (name: string, content = name): SignedResource => ({ name, digest: Digest.of(content) });
const FILES = [resource('weights.gguf'), resource('freehold.json'), resource('LICENSE')];

const sign = (resources: readonly SignedResource[] = FILES, privateKey = key) =>
  signModel({ subjectName: 'triage', resources, privateKey });
const verify = (bytes: Uint8Array, publicKey = key.publicKey): ModelSignatureEvidence =>
  verifyModelSignature(parseModelSignature(bytes, 'model.sig'), publicKey);

/** The name of the first failure, or `success`. */
function outcomeOf(work: () => unknown): string {
  try {
    work();
    return 'success';
  } catch (error) {
    if (error instanceof FreeholdError) return error.code;
    throw error;
  }
}

type Json = Record<string, unknown>;

/** A bundle over a statement that the caller edits, signed all the same: what a hostile or careless signer makes. */
function signedAfter(edit: (statement: Json) => Json | undefined, privateKey: PrivateKey = key): Buffer {
  const statement = JSON.parse(encodeModelStatement('triage', FILES, SIGNATURE_PATHS).toString()) as Json;
  return signedStatement(Buffer.from(JSON.stringify(edit(statement) ?? statement)), privateKey);
}

function signedStatement(payload: Uint8Array, privateKey: PrivateKey = key): Buffer {
  const bundle = JSON.parse(sign(FILES, privateKey).toString()) as Json;
  bundle.dsseEnvelope = encodeEnvelope(signEnvelope('application/vnd.in-toto+json', payload, privateKey));
  return Buffer.from(JSON.stringify(bundle));
}

const predicateOf = (statement: Json) => statement.predicate as { resources: Json[]; serialization: Json };
const subjectOf = (statement: Json) => (statement.subject as [Json])[0];

function bundleAfter(edit: (bundle: Json) => void): Buffer {
  const bundle = JSON.parse(sign().toString()) as Json;
  edit(bundle);
  return Buffer.from(JSON.stringify(bundle));
}

test('what was signed is verified, file by file', () => {
  const evidence = verify(sign());
  assert.equal(evidence.keyFingerprint, key.publicKey.fingerprint);
  assert.equal(evidence.subjectName, 'triage');
  assert.deepEqual(evidence.ignorePaths, SIGNATURE_PATHS);
  assert.deepEqual(
    evidence.resources.map(({ name }) => name),
    ['LICENSE', 'freehold.json', 'weights.gguf'],
  );
  assert.equal(evidence.subjectDigest, contentDigest(FILES));
  assert.equal(evidence.contentDigest, contentDigest(FILES));
  requireSameFiles(evidence, FILES);
});

test('the content digest is a constant of the files, not of their order or of the signature', () => {
  fc.assert(
    fc.property(fc.shuffledSubarray(FILES, { minLength: FILES.length }), (shuffled) => {
      assert.equal(verify(sign(shuffled)).contentDigest, contentDigest(FILES));
    }),
    { numRuns: 10 },
  );
  assert.notDeepEqual(sign(), sign());
});

test('the order of model_signing 1.1, by path segments, is accepted and gives the same content digest', () => {
  const bySegments = ['B', 'a', 'd/x', 'd-1', 'd.txt'].map((name) => resource(name));
  const bytes = signedAfter((statement) => {
    predicateOf(statement).resources = bySegments.map(({ name, digest }) => ({
      name,
      digest: Digest.hex(digest),
      algorithm: 'sha256',
    }));
    const raw = Buffer.concat(bySegments.map(({ digest }) => Digest.raw(digest)));
    subjectOf(statement).digest = { sha256: Digest.hex(Digest.of(raw)) };
    return statement;
  });
  const evidence = verify(bytes);
  assert.equal(evidence.contentDigest, contentDigest(bySegments));
  assert.notEqual(evidence.subjectDigest, evidence.contentDigest);
  requireSameFiles(evidence, bySegments);
});

test('another key is refused: by its hint, and by the signature when the hint lies', () => {
  const other = generatePrivateKey();
  assert.throws(() => verify(sign(), other.publicKey), {
    code: 'SIGNATURE_INVALID',
    message: /model\.sig: signed with key/,
  });
  const lying = bundleAfter((bundle) => {
    bundle.verificationMaterial = { publicKey: { hint: other.publicKey.fingerprint }, tlogEntries: [] };
  });
  assert.throws(() => verify(lying, other.publicKey), {
    code: 'SIGNATURE_INVALID',
    message: /not one of this key/,
  });
});

test('nothing is signed that would not verify: a private key with the public half of another', () => {
  const half = { ...generatePrivateKey(), publicKey: generatePrivateKey().publicKey };
  assert.throws(() => sign(FILES, half), { code: 'SIGNATURE_INVALID', message: /^the new signature: / });
  assert.throws(() => sign([resource('../x')]), { code: 'SIGNATURE_MALFORMED', message: /"\.\.\/x"/ });
  assert.throws(() => sign([resource('a'), resource('a')]), {
    code: 'SIGNATURE_MALFORMED',
    message: /twice/,
  });
  assert.throws(() => sign([]), { code: 'SIGNATURE_MALFORMED', message: /resources/ });
});

test('P-384 and P-521 verify with the hash of their curve', () => {
  for (const namedCurve of ['P-384', 'P-521']) {
    const pair = generateKeyPairSync('ec', { namedCurve });
    const privateKey = parsePrivateKey(
      pair.privateKey.export({ format: 'pem', type: 'pkcs8' }) as string,
      'x',
    );
    requireSameFiles(verify(sign(FILES, privateKey), privateKey.publicKey), FILES);
  }
});

test('altered, missing, additional and doubled files are refused by name', () => {
  const evidence = verify(sign());
  const [first, second, third] = FILES as [SignedResource, SignedResource, SignedResource];
  const altered = { name: first.name, digest: Digest.of('other') };
  assert.throws(() => requireSameFiles(evidence, [altered, second, third]), {
    code: 'DIGEST_MISMATCH',
    message: /"weights\.gguf" was altered/,
    detail: { file: 'weights.gguf', expected: first.digest, actual: altered.digest },
  });
  const swapped = [{ ...first, digest: second.digest }, { ...second, digest: first.digest }, third];
  assert.throws(() => requireSameFiles(evidence, swapped), {
    code: 'DIGEST_MISMATCH',
    message: /weights\.gguf/,
  });
  assert.throws(() => requireSameFiles(evidence, [first, second]), {
    code: 'SIGNATURE_INVALID',
    message: /"LICENSE" is missing/,
  });
  assert.throws(() => requireSameFiles(evidence, []), { code: 'SIGNATURE_INVALID', message: /is missing/ });
  for (const name of [
    'extra.bin',
    '.git/hooks/run',
    '.gitignore',
    'model.sig',
    'WEIGHTS.gguf',
    '__proto__',
  ]) {
    assert.throws(() => requireSameFiles(evidence, [...FILES, resource(name)]), {
      code: 'SIGNATURE_INVALID',
      message: new RegExp(`does not cover "${name.replaceAll('.', '\\.')}"`),
    });
  }
  assert.throws(() => requireSameFiles(evidence, [...FILES, first]), { code: 'SIGNATURE_INVALID' });
});

test('any set of files differs from any other', () => {
  const files = fc.uniqueArray(fc.tuple(fc.constantFrom('a', 'b', 'c/d', 'e'), fc.constantFrom('1', '2')), {
    selector: ([name]) => name,
    minLength: 1,
  });
  const toResources = (list: [string, string][]) => list.map(([name, content]) => resource(name, content));
  fc.assert(
    fc.property(files, files, (signed, found) => {
      const isSame = JSON.stringify(signed.toSorted()) === JSON.stringify(found.toSorted());
      const outcome = outcomeOf(() =>
        requireSameFiles(verify(sign(toResources(signed))), toResources(found)),
      );
      assert.equal(outcome === 'success', isSame);
      assert.ok(['success', 'SIGNATURE_INVALID', 'DIGEST_MISMATCH'].includes(outcome));
    }),
    { numRuns: 300 },
  );
});

test('a signer cannot leave files out, allow links, or sign and ignore one file at once', () => {
  const withIgnored = (...paths: string[]) =>
    signedAfter((statement) => {
      predicateOf(statement).serialization.ignore_paths = paths;
      return statement;
    });
  assert.equal(
    outcomeOf(() => verify(withIgnored('model.sig', '.git', '.gitignore', '.gitattributes', '.github'))),
    'success',
  );
  assert.equal(
    outcomeOf(() => verify(withIgnored())),
    'success',
  );
  for (const hidden of [
    'backdoor.py',
    'model.5.sig',
    '.',
    '..',
    '/',
    '*',
    'model.sig/x',
    './model.sig',
    '.gitmodules',
  ]) {
    assert.throws(
      () => verify(withIgnored('model.sig', hidden)),
      { code: 'SIGNATURE_INVALID', message: /leaves out/ },
      hidden,
    );
  }
  const both = signedStatement(encodeModelStatement('x', [resource('model.2.sig')], ['model.2.sig']));
  assert.throws(() => verify(both), {
    code: 'SIGNATURE_INVALID',
    message: /"model\.2\.sig" is signed and ignored/,
  });
  assert.throws(() => sign([resource('model.sig')]), {
    code: 'SIGNATURE_INVALID',
    message: /signed and ignored/,
  });
  const nested = signedStatement(encodeModelStatement('x', [resource('.git/config')], ['.git']));
  assert.throws(() => verify(nested), { code: 'SIGNATURE_INVALID' });
});

const ODD_BUNDLES: readonly (readonly [
  what: string,
  code: string,
  message: RegExp,
  edit: (bundle: Json) => void,
])[] = [
  ['unknown field', 'SIGNATURE_MALFORMED', /extra/, (b) => Object.assign(b, { extra: 1 })],
  [
    'message signature',
    'SIGNATURE_MALFORMED',
    /messageSignature/,
    (b) => Object.assign(b, { messageSignature: {} }),
  ],
  [
    'older bundle',
    'NOT_SUPPORTED',
    /version=0\.1/,
    (b) => Object.assign(b, { mediaType: 'application/vnd.dev.sigstore.bundle+json;version=0.1' }),
  ],
  [
    'another media type',
    'SIGNATURE_MALFORMED',
    /media type "application\/json"/,
    (b) => Object.assign(b, { mediaType: 'application/json' }),
  ],
  [
    'no material',
    'SIGNATURE_MALFORMED',
    /has 0 of publicKey/,
    (b) => Object.assign(b, { verificationMaterial: {} }),
  ],
  [
    'two methods',
    'SIGNATURE_MALFORMED',
    /has 2 of publicKey/,
    (b) => Object.assign(b.verificationMaterial as Json, { certificate: { rawBytes: 'AA==' } }),
  ],
  [
    'log entry',
    'NOT_SUPPORTED',
    /transparency log/,
    (b) => Object.assign(b.verificationMaterial as Json, { tlogEntries: [{}] }),
  ],
  [
    'timestamp',
    'NOT_SUPPORTED',
    /timestamp/,
    (b) => Object.assign(b.verificationMaterial as Json, { timestampVerificationData: {} }),
  ],
  [
    'key inside',
    'NOT_SUPPORTED',
    /public key inside/,
    (b) =>
      Object.assign(b.verificationMaterial as Json, {
        publicKey: { rawBytes: 'AA==', keyDetails: 'PKIX_ECDSA_P256_SHA_256' },
      }),
  ],
  [
    'no hint',
    'SIGNATURE_MALFORMED',
    /hint/,
    (b) => Object.assign(b.verificationMaterial as Json, { publicKey: {} }),
  ],
  [
    'short hint',
    'SIGNATURE_MALFORMED',
    /hint/,
    (b) => Object.assign(b.verificationMaterial as Json, { publicKey: { hint: 'ab' } }),
  ],
  [
    'other payload type',
    'SIGNATURE_MALFORMED',
    /payloadType/,
    (b) => Object.assign(b.dsseEnvelope as Json, { payloadType: 'text/plain' }),
  ],
  [
    'two signatures',
    'SIGNATURE_MALFORMED',
    /2 signatures/,
    (b) => (b.dsseEnvelope as { signatures: unknown[] }).signatures.push({ sig: 'AA==' }),
  ],
];

for (const [what, code, message, edit] of ODD_BUNDLES) {
  test(`a bundle is refused: ${what}`, () => {
    assert.throws(() => parseModelSignature(bundleAfter(edit), 'model.sig'), { code, message });
  });
}

test('a bundle over the limit is refused before it is read', () => {
  const large = Buffer.alloc(BUNDLE_BYTES_MAX + 1, 0x20);
  assert.throws(() => parseModelSignature(large, 'x'), {
    code: 'SIGNATURE_MALFORMED',
    message: /1572865 bytes, at most 1572864/,
  });
});

/** Flips every bit of a bundle; gives the offsets at which the result still verified over the same files. */
function survivingFlips(bundle: Buffer): { readonly offset: number; readonly bit: number }[] {
  const survivors: { offset: number; bit: number }[] = [];
  for (let offset = 0; offset < bundle.byteLength; offset++) {
    for (let bit = 0; bit < 8; bit++) {
      const flipped = Buffer.from(bundle);
      flipped.writeUInt8(bundle.readUInt8(offset) ^ (1 << bit), offset);
      const outcome = outcomeOf(() => requireSameFiles(verify(flipped), FILES));
      if (outcome === 'success') survivors.push({ offset, bit });
      else
        assert.ok(['SIGNATURE_INVALID', 'SIGNATURE_MALFORMED', 'NOT_SUPPORTED'].includes(outcome), outcome);
    }
  }
  return survivors;
}

test('every flipped bit of a bundle is refused', () => {
  assert.deepEqual(survivingFlips(sign()), []);
});

test('of a bundle with blanks, exactly the flips that turn one blank into another survive', () => {
  const indented = Buffer.from(JSON.stringify(JSON.parse(sign().toString()), undefined, '\t'));
  // Tab 0x09 and carriage return 0x0d differ in bit 2; line feed 0x0a and space 0x20 have no such neighbour.
  const tabs = [...indented.keys()].filter((offset) => indented[offset] === 0x09);
  assert.ok(tabs.length > 10);
  assert.deepEqual(
    survivingFlips(indented),
    tabs.map((offset) => ({ offset, bit: 2 })),
  );
});

test('every truncation and every appended byte but blanks is refused', () => {
  const bundle = sign();
  for (let length = 0; length < bundle.byteLength; length++) {
    assert.equal(
      outcomeOf(() => parseModelSignature(bundle.subarray(0, length), 'x')),
      'SIGNATURE_MALFORMED',
    );
  }
  for (let byte = 0; byte < 256; byte++) {
    const isBlank = [0x20, 0x09, 0x0a, 0x0d].includes(byte);
    const outcome = outcomeOf(() => parseModelSignature(Buffer.concat([bundle, Buffer.of(byte)]), 'x'));
    assert.equal(outcome, isBlank ? 'success' : 'SIGNATURE_MALFORMED', `byte ${byte}`);
  }
});

test('parts of two good signatures do not make a third', () => {
  const one = JSON.parse(sign([resource('a')]).toString()) as { dsseEnvelope: Json };
  const two = JSON.parse(sign([resource('b')]).toString()) as { dsseEnvelope: Json };
  const mixed = { ...one, dsseEnvelope: { ...one.dsseEnvelope, signatures: two.dsseEnvelope.signatures } };
  assert.equal(
    outcomeOf(() => verify(Buffer.from(JSON.stringify(mixed)))),
    'SIGNATURE_INVALID',
  );
});

// The vectors of the specification lie beside the checkout.
const VECTORS = path.resolve(import.meta.dirname, '../../../../shared/vectors/oms/test-vectors/v1.0');
const missing = existsSync(VECTORS) || process.env.CI === 'true' ? false : `no vectors at ${VECTORS}`;
const vector = (name: string) => readFileSync(path.join(VECTORS, name));

const EXPECTED: Readonly<Record<string, string>> = {
  'valid/key.bundle.json': 'success',
  'valid/certificate.bundle.json': 'NOT_SUPPORTED',
  'valid/sigstore.bundle.json': 'NOT_SUPPORTED',
  'invalid/empty.bundle.json': 'SIGNATURE_MALFORMED',
  'invalid/missing-envelope.bundle.json': 'SIGNATURE_MALFORMED',
  'invalid/missing-tlog-entries.bundle.json': 'SIGNATURE_MALFORMED',
  'invalid/missing-verification-material.bundle.json': 'SIGNATURE_MALFORMED',
  'invalid-payload/wrong-predicate.bundle.json': 'SIGNATURE_MALFORMED',
};

for (const [name, expected] of Object.entries(EXPECTED)) {
  test(`vector ${name}: ${expected}`, { skip: missing }, () => {
    assert.equal(
      outcomeOf(() => parseModelSignature(vector(name), name)),
      expected,
    );
  });
}

test('the key vector verifies with its P-384 key, and is then refused for what it ignores', {
  skip: missing,
}, () => {
  // The certificate vector was made with the same key.
  const { verificationMaterial } = JSON.parse(vector('valid/certificate.bundle.json').toString());
  const [leaf] = verificationMaterial.x509CertificateChain.certificates;
  const { publicKey } = new X509Certificate(Buffer.from(leaf.rawBytes, 'base64'));
  const vectorKey = parsePublicKey(publicKey.export({ format: 'pem', type: 'spki' }) as string, 'leaf');
  const parsed = parseModelSignature(vector('valid/key.bundle.json'), 'model.sig');
  assert.equal(vectorKey.fingerprint, parsed.keyFingerprint);
  assert.equal(
    parsed.statement.subjectDigest,
    'sha256:92745110b1ab4368471cbe31664e10174e954b113a3df333db860317b2c6dec4',
  );
  // `ignore-me` comes to light only after the signature verified.
  assert.throws(() => verifyModelSignature(parsed, vectorKey), {
    code: 'SIGNATURE_INVALID',
    message: /leaves out "ignore-me"/,
  });
  const tampered = {
    ...parsed,
    envelope: { ...parsed.envelope, payload: Buffer.concat([parsed.envelope.payload, Buffer.of(0x20)]) },
  };
  assert.throws(() => verifyModelSignature(tampered, vectorKey), {
    code: 'SIGNATURE_INVALID',
    message: /not one of this key/,
  });
});
