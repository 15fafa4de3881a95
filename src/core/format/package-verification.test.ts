import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { Digest } from '../base/digest.ts';
import { FreeholdError } from '../base/errors.ts';
import { trustPolicySchema } from '../crypto/trust-policy.ts';
import { encodePackage } from './modelpack.ts';
import { parsePackageDescriptor } from './package-descriptor.ts';
import { type DocumentSource, verifyPackage } from './package-verification.ts';

interface Vector {
  name: string;
  expect: string;
  manifestDigest: string;
  blobs: Record<string, string>;
  trust: { pattern: string; keys: string[] }[];
}

const file = new URL('../../../spec/vectors/packages.json', import.meta.url);
const document: { encoding: Record<string, string>; vectors: Vector[] } = JSON.parse(
  readFileSync(file, 'utf8'),
);

/** Documents as a store gives them: hashed before they are returned. */
function sourceOf(blobs: Record<string, string>): DocumentSource {
  return {
    async readAll(digest) {
      const text = blobs[digest];
      if (text === undefined) throw new FreeholdError('NOT_FOUND', `no ${digest}`);
      const bytes = Buffer.from(text, 'base64');
      if (Digest.of(bytes) !== digest) throw new FreeholdError('DIGEST_MISMATCH', `not ${digest}`);
      return bytes;
    },
  };
}

async function outcomeOf(vector: Vector): Promise<string> {
  try {
    const policy = trustPolicySchema.parse({ rules: vector.trust });
    const { descriptor } = await verifyPackage(
      sourceOf(vector.blobs),
      Digest.parse(vector.manifestDigest),
      policy,
    );
    assert.equal(descriptor.name, 'acme/triage');
    return 'success';
  } catch (error) {
    if (error instanceof FreeholdError) return error.code;
    throw error;
  }
}

for (const vector of document.vectors) {
  test(`vector ${vector.name}: ${vector.expect}`, async () => {
    assert.equal(await outcomeOf(vector), vector.expect);
  });
}

test('encoding gives the bytes and digests of the specification', () => {
  const { encoding } = document;
  const descriptor = parsePackageDescriptor(Buffer.from(encoding.descriptor ?? ''));
  const encoded = encodePackage(descriptor);
  assert.equal(encoded.descriptor.bytes.toString('utf8'), encoding.descriptor);
  assert.equal(encoded.config.bytes.toString('utf8'), encoding.config);
  assert.equal(encoded.manifest.bytes.toString('utf8'), encoding.manifest);
  assert.equal(encoded.manifest.digest, encoding.manifestDigest);
});

test('encoding does not depend on the order of keys or files', () => {
  const descriptor = parsePackageDescriptor(Buffer.from(document.encoding.descriptor ?? ''));
  const reversed = Object.fromEntries(Object.entries(descriptor).reverse()) as typeof descriptor;
  const shuffled = { ...reversed, files: [...descriptor.files].reverse() };
  assert.equal(encodePackage(shuffled).manifest.digest, document.encoding.manifestDigest);
});

/** What an attacker who may rewrite the whole store can do: change a blob and every reference to its digest. */
function readdressed(
  vector: Vector,
  digest: string,
  bytes: Buffer,
): { blobs: Record<string, string>; root: string } {
  const manifest = Buffer.from(vector.blobs[vector.manifestDigest] ?? '', 'base64').toString('utf8');
  const renamed = Buffer.from(manifest.replaceAll(digest, Digest.of(bytes)));
  const root = digest === vector.manifestDigest ? bytes : renamed;
  const blobs = {
    ...vector.blobs,
    [Digest.of(bytes)]: bytes.toString('base64'),
    [Digest.of(root)]: root.toString('base64'),
  };
  return { blobs, root: Digest.of(root) };
}

test('no flipped bit of manifest, config, descriptor or signature verifies, even with every digest put right', async () => {
  const vector = document.vectors[0];
  assert.ok(vector);
  const policy = trustPolicySchema.parse({ rules: vector.trust });
  const files = parsePackageDescriptor(Buffer.from(document.encoding.descriptor ?? '')).files.map(
    ({ digest }) => digest as string,
  );
  let tried = 0;
  for (const [digest, text] of Object.entries(vector.blobs)) {
    // Weights and other files are hashed when they are opened; verifyPackage reads documents only.
    if (files.includes(digest)) continue;
    const bytes = Buffer.from(text, 'base64');
    for (let offset = 0; offset < bytes.length; offset += 3) {
      const damaged = Buffer.from(bytes);
      damaged[offset] = (damaged[offset] ?? 0) ^ (1 << (offset % 8));
      const { blobs, root } = readdressed(vector, digest, damaged);
      await assert.rejects(
        verifyPackage(sourceOf(blobs), Digest.parse(root), policy),
        FreeholdError,
        `offset ${offset}`,
      );
      tried++;
    }
  }
  assert.ok(tried > 1000, `${tried} flips`);
});
