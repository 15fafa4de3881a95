import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as format from '../src/format.ts';
import * as index from '../src/index.ts';
import * as verify from '../src/verify.ts';

// A name that appears or goes here is a change of the published API: say so in CHANGELOG.md.

test('freehold exports exactly these names', () => {
  assert.deepEqual(Object.keys(index).sort(), [
    'FREEHOLD_VERSION',
    'FreeholdError',
    'openHome',
    'startServer',
    'verifyPackage',
  ]);
});

test('freehold/verify exports exactly these names', () => {
  assert.deepEqual(Object.keys(verify).sort(), [
    'Digest',
    'FreeholdError',
    'formatFingerprint',
    'parseModelSignature',
    'parsePublicKey',
    'parseTrustPattern',
    'requireSameFiles',
    'trustPolicySchema',
    'verifyModelSignature',
    'verifyPackage',
  ]);
});

test('freehold/format exports exactly these names', () => {
  assert.deepEqual(Object.keys(format).sort(), [
    'ANNOTATION',
    'Digest',
    'FreeholdError',
    'MEDIA_TYPE',
    'describeGguf',
    'encodePackage',
    'encodePackageDescriptor',
    'encodeVersionIndex',
    'memoryByteSource',
    'parseModelManifest',
    'parseModelYaml',
    'parsePackageDescriptor',
    'parseReference',
    'parseVersionIndex',
    'readGguf',
    'verifyModelGguf',
  ]);
});
