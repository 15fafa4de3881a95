import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import * as ids from '../src/core/base/ids.ts';
import { BUNDLE_BYTES_MAX, contentDigest } from '../src/core/crypto/model-signing.ts';
import { RESOURCES_MAX, STATEMENT_BYTES_MAX } from '../src/core/crypto/model-statement.ts';
import * as ggufLimits from '../src/core/format/gguf/gguf-limits.ts';
import { encodePackage } from '../src/core/format/modelpack.ts';
import * as oci from '../src/core/format/oci.ts';
import * as descriptor from '../src/core/format/package-descriptor.ts';
import { signedFiles } from '../src/core/format/package-verification.ts';
import { parseQuantization } from '../src/core/format/quantization.ts';

// What spec/PACKAGE.md says in numbers and bytes is what the code does.

const SPEC = path.join(path.dirname(import.meta.dirname), 'spec');
const page = readFileSync(path.join(SPEC, 'PACKAGE.md'), 'utf8');
const { encoding, vectors } = JSON.parse(
  readFileSync(path.join(SPEC, 'vectors', 'packages.json'), 'utf8'),
) as {
  encoding: Record<string, string>;
  vectors: { name: string; blobs: Record<string, string>; manifestDigest: string }[];
};

/** The JSON block below `<!-- example: NAME -->`. */
function example(name: string): string {
  const block = new RegExp(`<!-- example: ${name} -->\n\`\`\`json\n([\\s\\S]*?)\`\`\``).exec(page)?.[1];
  assert.ok(block !== undefined, `no example ${name}`);
  return block;
}

/** Without blanks, keys in their order: the bytes that are hashed. */
const compact = (text: string) => JSON.stringify(JSON.parse(text));

/** Rows `| first | second |…` of the section with this heading: first and second cell, without backquotes. */
function rowsOf(heading: string): Map<string, string> {
  const section = page.split(/^## /m).find((text) => text.startsWith(`${heading}\n`)) ?? '';
  const rows = section.matchAll(/^\| `?([^|`]+?)`? \| `?([^|`]*?)`? \|/gm);
  return new Map([...rows].map(([, first = '', second = '']) => [first, second]));
}

test('the example is the one of the vectors, and what the code makes of its descriptor', () => {
  assert.equal(example('descriptor'), encoding.descriptor);
  assert.equal(compact(example('config')), encoding.config);
  assert.equal(compact(example('manifest')), encoding.manifest);
  const parsed = descriptor.parsePackageDescriptor(Buffer.from(example('descriptor')));
  const encoded = encodePackage(parsed);
  assert.deepEqual(Object.fromEntries(rowsOf('Worked example')), {
    descriptor: encoded.descriptor.digest,
    config: encoded.config.digest,
    manifest: encoded.manifest.digest,
    content: contentDigest(signedFiles(parsed, encoded.descriptor.digest)),
  });
});

test('the statement of the example is what the vectors have signed', () => {
  const [good] = vectors;
  assert.equal(good?.name, 'signed-and-trusted');
  const read = (digest: string) => Buffer.from(good.blobs[digest] ?? '', 'base64');
  const manifest = oci.parseModelManifest(read(good.manifestDigest));
  const bundle = manifest.layers.find((layer) => oci.layerPath(layer) === 'model.sig');
  const { dsseEnvelope } = JSON.parse(read(bundle?.digest ?? '').toString('utf8'));
  assert.equal(compact(example('statement')), Buffer.from(dsseEnvelope.payload, 'base64').toString('utf8'));
});

test('every limit on weights is listed with its value, and no other', () => {
  // How much is read at once accepts and refuses nothing.
  const { WINDOW_BYTES: _, ...expected } = ggufLimits;
  const { limit: _header, ...listed } = Object.fromEntries(rowsOf('Weights'));
  assert.deepEqual(listed, asText(expected));
});

test('every limit on documents is listed with its value, and no other', () => {
  const { limit: _header, ...listed } = Object.fromEntries(rowsOf('Limits'));
  const own = { BUNDLE_BYTES_MAX, STATEMENT_BYTES_MAX, RESOURCES_MAX };
  assert.deepEqual(listed, asText({ ...oci, ...descriptor, ...ids, ...own }));
});

/** The numbers among the exports of a module, in decimal. */
function asText(exports: Readonly<Record<string, unknown>>): Record<string, string> {
  const numbers = Object.entries(exports).filter(([, value]) => typeof value === 'number');
  return Object.fromEntries(numbers.map(([name, value]) => [name, String(value)]));
}

test('every quantization that is listed is known', () => {
  const names = [...(/^Quantizations: ([\s\S]*?):/m.exec(page)?.[1]?.matchAll(/`(\w+)`/g) ?? [])];
  assert.ok(names.length > 15);
  for (const [, name = ''] of names) assert.equal(parseQuantization(name, 'spec').name, name);
});
