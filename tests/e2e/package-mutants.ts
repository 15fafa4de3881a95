import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { Digest } from '../../src/core/base/digest.ts';
import { FreeholdError } from '../../src/core/base/errors.ts';
import type { TrustPolicy } from '../../src/core/crypto/trust-policy.ts';
import { DESCRIPTOR_PATH } from '../../src/core/format/package-descriptor.ts';
import {
  type DocumentSource,
  readPackage,
  verifyPackage,
} from '../../src/core/format/package-verification.ts';
import { openFreehold } from '../../src/surface/app/freehold.ts';
import { mutants } from '../fixtures/mutations.ts';
import { installTinyPackage } from '../fixtures/tiny-package.ts';
import { partsOf } from './installed-package.ts';

const DOCUMENTS = ['the manifest', 'the config', DESCRIPTOR_PATH, 'model.sig'] as const;
type DocumentName = (typeof DOCUMENTS)[number];

/** A signed package as its documents, and the policy that trusts it. */
export interface SignedDocuments {
  readonly policy: TrustPolicy;
  readonly bytes: Readonly<Record<DocumentName, Buffer>>;
}

export interface MutantRun {
  /** Code → how often. */
  readonly refusals: Readonly<Record<string, number>>;
  /** Mutants that mean what the original means: other blanks in a manifest, a key twice escaped. */
  readonly accepted: number;
  readonly slowestMs: number;
}

export async function signedDocuments(): Promise<SignedDocuments> {
  const folder = await mkdtemp(path.join(tmpdir(), 'freehold-mutants-'));
  try {
    const freehold = await openFreehold({ env: {}, home: path.join(folder, 'home') });
    await installTinyPackage(freehold, path.join(folder, 'tiny'), {
      files: { LICENSE: 'All rights reserved.\n', 'MODEL_CARD.md': '# Tiny\n' },
      chatTemplate: 'hello',
      yaml: ['parameters: { temperature: 0.5, stop: ["x", "é"] }'],
    });
    const parts = new Map((await partsOf(freehold)).map((part) => [part.name, part.bytes]));
    const bytes = Object.fromEntries(DOCUMENTS.map((name) => [name, parts.get(name) ?? assert.fail(name)]));
    return { policy: await freehold.home.trust.load(), bytes: bytes as Record<DocumentName, Buffer> };
  } finally {
    await rm(folder, { recursive: true });
  }
}

/**
 * Reads and verifies packages with one broken document each. The manifest refers to the broken one by its new digest
 * and size, as an attacker would have it: otherwise only the digest would be tested.
 */
export async function runPackageMutants(
  { policy, bytes }: SignedDocuments,
  seed: number,
  countPerDocument: number,
): Promise<MutantRun> {
  const refusals: Record<string, number> = {};
  let accepted = 0;
  let slowestMs = 0;
  for (const name of DOCUMENTS) {
    let number = 0;
    for (const mutant of mutants(seed, bytes[name], countPerDocument)) {
      const shown = `${name}, mutant ${number++} of seed ${seed}`;
      const { source, root } = packageWith(bytes, name, Buffer.from(mutant));
      const startMs = performance.now();
      try {
        // Once as `inspect` and `sign` read it, once as everything does that uses it.
        const read = await readPackage(source, root);
        assert.equal(read.descriptor.name, 'acme/tiny', shown);
        await verifyPackage(source, root, policy);
        requireSameMeaning(name, bytes[name], Buffer.from(mutant), shown);
        accepted++;
      } catch (error) {
        assert.ok(
          error instanceof FreeholdError,
          `${shown}: ${error instanceof Error ? error.stack : error}`,
        );
        assert.equal(error.exitCode, 4, `${shown}: ${error.code} ${error.message}`);
        assert.ok(error.message.length < 2000, `${shown}: a message of ${error.message.length} characters`);
        refusals[error.code] = (refusals[error.code] ?? 0) + 1;
      }
      slowestMs = Math.max(slowestMs, performance.now() - startMs);
    }
  }
  return { refusals, accepted, slowestMs };
}

function packageWith(
  bytes: Readonly<Record<DocumentName, Buffer>>,
  broken: DocumentName,
  mutant: Buffer,
): { source: DocumentSource; root: Digest } {
  const documents = { ...bytes, [broken]: mutant };
  // The config lists the digests of the layers, the manifest those of config and layers, with their sizes.
  if (broken === DESCRIPTOR_PATH || broken === 'model.sig') {
    const text = bytes['the config'].toString('utf8');
    documents['the config'] = Buffer.from(text.replace(Digest.of(bytes[broken]), Digest.of(mutant)));
  }
  if (broken !== 'the manifest') {
    const replaced = DOCUMENTS.filter((name) => documents[name] !== bytes[name]);
    for (const name of replaced) {
      documents['the manifest'] = readdressed(documents['the manifest'], bytes[name], documents[name]);
    }
  }
  const blobs = new Map(Object.values(documents).map((document) => [Digest.of(document), document]));
  const source: DocumentSource = {
    async readAll(digest, bytesMax) {
      const found = blobs.get(digest);
      if (found === undefined) throw new FreeholdError('DIGEST_MISMATCH', `no blob ${digest}`);
      if (found.byteLength > bytesMax) throw new FreeholdError('SIZE_MISMATCH', `${digest} is too large`);
      return found;
    },
  };
  return { source, root: Digest.of(documents['the manifest']) };
}

interface Addressed {
  readonly digest: string;
}

/** The manifest with digest and size of one document put right. */
function readdressed(manifest: Buffer, original: Buffer, replacement: Buffer): Buffer {
  const document = JSON.parse(manifest.toString('utf8')) as { config: Addressed; layers: Addressed[] };
  const put = (descriptor: Addressed): Addressed =>
    descriptor.digest === Digest.of(original)
      ? { ...descriptor, digest: Digest.of(replacement), ...{ size: replacement.byteLength } }
      : descriptor;
  return Buffer.from(
    JSON.stringify({ ...document, config: put(document.config), layers: document.layers.map(put) }),
  );
}

/** What passes may differ in blanks only; a signature bundle proves itself. */
function requireSameMeaning(name: DocumentName, original: Buffer, mutant: Buffer, shown: string): void {
  if (name === 'model.sig') return;
  const isSame = isDeepStrictEqual(
    JSON.parse(mutant.toString('utf8')),
    JSON.parse(original.toString('utf8')),
  );
  assert.ok(isSame, `${shown} was accepted: ${mutant.toString('utf8')}`);
}
