import assert from 'node:assert/strict';
import { createHash, generateKeyPairSync } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  encodePrivateKey,
  type Fingerprint,
  formatFingerprint,
  generatePrivateKey,
  isSignedBy,
  parseFingerprint,
  parsePrivateKey,
  parsePublicKey,
  signBytes,
} from './keys.ts';

/** One P-256 key as `openssl ec` writes it: plain, with a compressed point, with written-out curve parameters. */
const FINGERPRINT = 'ce11b651c6811d4b1b4a5aebb6839e33d6894b5c05a976ac0c6acc97009e5695';
const PLAIN = `-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEt7R+sJ778/QSLyT0L8dGyJza7ow9
3VrxI+CXuW2MhfbNurXR+nGvobjHwGSoIhJJkP/MhBkoymZIZVjC6sG0oA==
-----END PUBLIC KEY-----
`;
const COMPRESSED = `-----BEGIN PUBLIC KEY-----
MDkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDIgACt7R+sJ778/QSLyT0L8dGyJza7ow9
3VrxI+CXuW2MhfY=
-----END PUBLIC KEY-----
`;
const EXPLICIT = `-----BEGIN PUBLIC KEY-----
MIIBSzCCAQMGByqGSM49AgEwgfcCAQEwLAYHKoZIzj0BAQIhAP////8AAAABAAAA
AAAAAAAAAAAA////////////////MFsEIP////8AAAABAAAAAAAAAAAAAAAA////
///////////8BCBaxjXYqjqT57PrvVV2mIa8ZR0GsMxTsPY7zjw+J9JgSwMVAMSd
NgiG5wSTamZ44ROdJreBn36QBEEEaxfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5
RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9QIhAP////8AAAAA
//////////+85vqtpxeehPO5ysL8YyVRAgEBA0IABLe0frCe+/P0Ei8k9C/HRsic
2u6MPd1a8SPgl7ltjIX2zbq10fpxr6G4x8BkqCISSZD/zIQZKMpmSGVYwurBtKA=
-----END PUBLIC KEY-----
`;

const invalid = (message: RegExp) => ({ code: 'KEY_INVALID', message });
const publicPem = (curve: string) =>
  generateKeyPairSync('ec', { namedCurve: curve }).publicKey.export({
    format: 'pem',
    type: 'spki',
  }) as string;

test('a generated key is P-256, comes back from its PEM, and signs', () => {
  const key = generatePrivateKey();
  assert.equal(key.publicKey.curve, 'P-256');
  const again = parsePrivateKey(encodePrivateKey(key), 'x');
  assert.equal(again.publicKey.fingerprint, key.publicKey.fingerprint);
  const signature = signBytes(again, Buffer.from('text'));
  assert.equal(isSignedBy(parsePublicKey(key.publicKey.pem, 'x'), Buffer.from('text'), signature), true);
  assert.equal(isSignedBy(key.publicKey, Buffer.from('texT'), signature), false);
  assert.equal(isSignedBy(generatePrivateKey().publicKey, Buffer.from('text'), signature), false);
  assert.equal(isSignedBy(key.publicKey, Buffer.from('text'), Buffer.alloc(0)), false);
});

test('the fingerprint is the SHA-256 of the PEM text, however the key was written', () => {
  assert.equal(createHash('sha256').update(PLAIN).digest('hex'), FINGERPRINT);
  for (const pem of [
    PLAIN,
    COMPRESSED,
    EXPLICIT,
    PLAIN.replaceAll('\n', '\r\n'),
    `a comment\n${PLAIN}\n\n`,
  ]) {
    const key = parsePublicKey(pem, 'x');
    assert.equal(key.fingerprint, FINGERPRINT);
    assert.equal(key.pem, PLAIN);
  }
});

test('the three curves of the specification are accepted, each with its own hash; others are not', () => {
  for (const curve of ['P-256', 'P-384', 'P-521']) {
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: curve });
    const key = parsePrivateKey(privateKey.export({ format: 'pem', type: 'sec1' }) as string, 'x');
    assert.equal(key.publicKey.curve, curve);
    assert.ok(isSignedBy(key.publicKey, Buffer.from('a'), signBytes(key, Buffer.from('a'))));
  }
  assert.throws(
    () => parsePublicKey(publicPem('secp256k1'), 'k.pub'),
    invalid(/k\.pub: a key of type curve secp256k1/),
  );
  assert.throws(() => parsePublicKey(publicPem('P-224'), 'k.pub'), invalid(/P-224|secp224r1/));
  const rsa = generateKeyPairSync('rsa', { modulusLength: 1024 }).publicKey;
  assert.throws(
    () => parsePublicKey(rsa.export({ format: 'pem', type: 'spki' }) as string, 'k'),
    invalid(/type rsa/),
  );
  const ed25519 = generateKeyPairSync('ed25519').publicKey;
  assert.throws(
    () => parsePublicKey(ed25519.export({ format: 'pem', type: 'spki' }) as string, 'k'),
    invalid(/type ed25519/),
  );
});

test('a private key where a public one is wanted is noticed, and derived from only when that was asked for', () => {
  const key = generatePrivateKey();
  const pem = encodePrivateKey(key);
  assert.throws(() => parsePublicKey(pem, 'acme.key'), invalid(/acme\.key: holds a private key/));
  assert.equal(parsePublicKey(pem, 'acme.key', { derive: true }).fingerprint, key.publicKey.fingerprint);
  assert.throws(
    () => parsePrivateKey(key.publicKey.pem, 'acme.pub'),
    invalid(/"PUBLIC KEY" where a private key is wanted/),
  );
});

test('files with several keys, none, a passphrase, a certificate or too much text are refused', () => {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const locked = privateKey.export({
    format: 'pem',
    type: 'pkcs8',
    cipher: 'aes-256-cbc',
    passphrase: 'x',
  }) as string;
  const oldLocked = privateKey.export({
    format: 'pem',
    type: 'sec1',
    cipher: 'aes-256-cbc',
    passphrase: 'x',
  }) as string;
  assert.throws(() => parsePrivateKey(locked, 'k'), invalid(/passphrase/));
  assert.throws(() => parsePrivateKey(oldLocked, 'k'), invalid(/passphrase/));
  assert.throws(() => parsePublicKey(PLAIN + PLAIN, 'k'), invalid(/2 PEM blocks/));
  assert.throws(() => parsePublicKey('', 'k'), invalid(/no PEM key/));
  assert.throws(() => parsePublicKey(PLAIN.slice(0, -20), 'k'), invalid(/no PEM key/));
  assert.throws(
    () => parsePublicKey(PLAIN.replaceAll('PUBLIC KEY', 'CERTIFICATE'), 'k'),
    invalid(/"CERTIFICATE"/),
  );
  assert.throws(() => parsePublicKey(PLAIN.replace('t7R+', 'AAAA'), 'k'), invalid(/cannot be read/));
  assert.throws(() => parsePublicKey(PLAIN + ' '.repeat(20_000), 'k'), invalid(/at most 16384/));
  const withParameters = `-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n${privateKey.export({ format: 'pem', type: 'sec1' })}`;
  assert.equal(parsePrivateKey(withParameters, 'k').publicKey.curve, 'P-256');
});

test('no message and no cause repeats a private key', () => {
  const pem = encodePrivateKey(generatePrivateKey());
  const secret = pem.split('\n')[1] ?? '';
  for (const text of [pem + pem, pem.replace('MIG', 'MIH'), pem.replaceAll('PRIVATE', 'PUBLIC')]) {
    for (const parse of [parsePrivateKey, parsePublicKey]) {
      assert.throws(
        () => parse(text, 'k'),
        (error: Error) => !`${error.message} ${String(error.cause)}`.includes(secret.slice(4, 20)),
      );
    }
  }
});

test('fingerprints: shown in groups, read back in any spelling, anything else refused', () => {
  const shown = formatFingerprint(FINGERPRINT as Fingerprint);
  assert.equal(
    shown,
    'SHA256:ce11 b651 c681 1d4b 1b4a 5aeb b683 9e33 d689 4b5c 05a9 76ac 0c6a cc97 009e 5695',
  );
  for (const text of [shown, FINGERPRINT, ` ${shown.toUpperCase()} `, FINGERPRINT.replace(/..\B/g, '$&:')]) {
    assert.equal(parseFingerprint(text), FINGERPRINT);
  }
  for (const text of [
    '',
    'SHA256:',
    FINGERPRINT.slice(1),
    `${FINGERPRINT}0`,
    `md5:${FINGERPRINT}`,
    'x'.repeat(100_000),
  ]) {
    assert.throws(() => parseFingerprint(text), { code: 'KEY_INVALID' });
  }
});

test('arbitrary text never gets another error than KEY_INVALID, and is read in proportion to its length', () => {
  const line = fc.constantFrom(
    '-----BEGIN PUBLIC KEY-----',
    '-----END PUBLIC KEY-----',
    '-----BEGIN EC PRIVATE KEY-----',
    'MFkw',
    '',
    '=',
    ...PLAIN.split('\n'),
  );
  fc.assert(
    fc.property(fc.array(line, { maxLength: 12 }), (lines) => {
      try {
        parsePublicKey(lines.join('\n'), 'k', { derive: true });
      } catch (error) {
        assert.equal((error as { code?: string }).code, 'KEY_INVALID');
      }
    }),
    { numRuns: 500 },
  );
  const started = process.hrtime.bigint();
  assert.throws(() => parsePublicKey('-----BEGIN A-----\n'.repeat(800), 'k'), { code: 'KEY_INVALID' });
  assert.throws(() => parsePublicKey(`-----BEGIN A-----\n${'\n'.repeat(16_000)}`, 'k'), {
    code: 'KEY_INVALID',
  });
  assert.ok(process.hrtime.bigint() - started < 2_000_000_000n);
});
