import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  encodeEnvelope,
  encodePreAuthentication,
  parseEnvelope,
  signEnvelope,
  verifyEnvelope,
} from './dsse.ts';
import { generatePrivateKey } from './keys.ts';

const TYPE = 'application/vnd.example+json';
const key = generatePrivateKey();
const PAYLOAD = Buffer.from('{"a":1}');
const malformed = (message: RegExp) => ({ code: 'SIGNATURE_MALFORMED', message });

test('pre-authentication encoding is that of the DSSE v1.0 protocol document', () => {
  const encoded = encodePreAuthentication('http://example.com/HelloWorld', Buffer.from('hello world'));
  assert.equal(encoded.toString(), 'DSSEv1 29 http://example.com/HelloWorld 11 hello world');
  assert.equal(encodePreAuthentication('é', Buffer.alloc(0)).toString(), 'DSSEv1 2 é 0 ');
});

test('no two pairs of type and payload have one encoding', () => {
  const text = fc.string({ unit: fc.constantFrom('1', ' ', 'a', '2'), maxLength: 6 });
  fc.assert(
    fc.property(text, text, text, text, (type, payload, otherType, otherPayload) => {
      fc.pre(type !== otherType || payload !== otherPayload);
      const one = encodePreAuthentication(type, Buffer.from(payload));
      const other = encodePreAuthentication(otherType, Buffer.from(otherPayload));
      assert.notDeepEqual(one, other);
    }),
  );
});

test('an envelope comes back from its JSON form and verifies', () => {
  const envelope = signEnvelope(TYPE, PAYLOAD, key);
  const parsed = parseEnvelope(encodeEnvelope(envelope), TYPE, 'x');
  assert.deepEqual(verifyEnvelope(parsed, key.publicKey, 'x'), PAYLOAD);
});

test('another key, payload or payload type does not verify', () => {
  const envelope = signEnvelope(TYPE, PAYLOAD, key);
  const invalid = { code: 'SIGNATURE_INVALID', message: /^x: / };
  assert.throws(() => verifyEnvelope(envelope, generatePrivateKey().publicKey, 'x'), invalid);
  assert.throws(
    () => verifyEnvelope({ ...envelope, payload: Buffer.from('{"a":2}') }, key.publicKey, 'x'),
    invalid,
  );
  assert.throws(() => verifyEnvelope({ ...envelope, payloadType: `${TYPE}2` }, key.publicKey, 'x'), invalid);
  assert.throws(
    () => verifyEnvelope({ ...envelope, signature: Buffer.alloc(70, 1) }, key.publicKey, 'x'),
    invalid,
  );
});

test('a swapped payload type is refused before the signature is looked at', () => {
  const json = encodeEnvelope(signEnvelope('application/vnd.other', PAYLOAD, key));
  assert.throws(() => parseEnvelope(json, TYPE, 'x'), malformed(/payloadType is "application\/vnd\.other"/));
});

test('exactly one signature, and a keyid without meaning only', () => {
  const json = encodeEnvelope(signEnvelope(TYPE, PAYLOAD, key));
  const [signature] = json.signatures;
  assert.ok(signature);
  const parse = (signatures: unknown) => parseEnvelope({ ...json, signatures }, TYPE, 'x');
  assert.throws(() => parse([]), malformed(/0 signatures, exactly one/));
  assert.throws(() => parse([signature, signature]), malformed(/2 signatures, exactly one/));
  for (const keyid of ['', null]) assert.deepEqual(parse([{ ...signature, keyid }]).payload, PAYLOAD);
  assert.deepEqual(parse([{ sig: signature.sig }]).payload, PAYLOAD);
  assert.throws(() => parse([{ ...signature, keyid: 'mine' }]), malformed(/signatures\[0\]\.keyid/));
  assert.throws(() => parse([{ ...signature, cert: 'x' }]), malformed(/cert/));
  assert.throws(() => parse([{ sig: Buffer.alloc(300).toString('base64') }]), malformed(/300 bytes/));
});

test('base64 has one spelling: padded, standard alphabet, zero pad bits, no blanks', () => {
  const json = encodeEnvelope(signEnvelope(TYPE, Buffer.from([0xfb, 0xff, 0xfe, 0x10]), key));
  assert.equal(json.payload, '+//+EA==');
  for (const payload of [
    '+//+EA',
    '+//+EA=',
    '+//+EB==',
    '-__-EA==',
    ' +//+EA==',
    '+//+\nEA==',
    '+//+EA===',
    'é',
  ]) {
    assert.throws(
      () => parseEnvelope({ ...json, payload }, TYPE, 'x'),
      malformed(/payload is not canonical base64/),
    );
  }
});

test('unknown or missing fields are refused by name', () => {
  const json = encodeEnvelope(signEnvelope(TYPE, PAYLOAD, key));
  assert.throws(() => parseEnvelope({ ...json, extra: 1 }, TYPE, 'x'), malformed(/extra/));
  assert.throws(() => parseEnvelope({ ...json, payload: undefined }, TYPE, 'x'), malformed(/payload/));
  assert.throws(() => parseEnvelope(undefined, TYPE, 'x'), malformed(/\(root\)/));
});
