import assert from 'node:assert/strict';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { stringify } from 'yaml';
import { temporaryFolder } from '../../../tests/fixtures/freehold-home.ts';
import { importableModel } from '../../../tests/fixtures/import-home.ts';
import {
  installTinyPackage,
  TINY_KEY,
  type TinyPackageOptions,
} from '../../../tests/fixtures/tiny-package.ts';
import { Digest } from '../../core/base/digest.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import { openArchive } from '../../io/archive/archive.ts';
import { storePlace } from '../../io/store/store-place.ts';
import type { ApprovedKeys } from './archive-packages.ts';
import { restoreArchive } from './archive-restore.ts';
import { type SaveArchiveOptions, saveArchive } from './archive-save.ts';
import { verifyArchive } from './archive-verify.ts';
import { type Freehold, openFreehold } from './freehold.ts';
import { installFromCatalog } from './install-catalog.ts';
import { installReference } from './install-reference.ts';
import { fullReference, installedPackages } from './installed-packages.ts';
import { addTrust, createKey, publicKeyOf } from './keys-and-trust.ts';
import { verifyReference } from './verify-package.ts';

const { signal } = new AbortController();

const code =
  (wanted: string, message = /./) =>
  (error: unknown) =>
    error instanceof FreeholdError && error.code === wanted && message.test(error.message);

const home = async (folder: string, name: string) => openFreehold({ env: {}, home: path.join(folder, name) });

/** A publisher's home with one package, and a folder for archives. */
async function ground(context: TestContext, options: TinyPackageOptions = {}) {
  const folder = await temporaryFolder(context, 'freehold-archive-');
  const publisher = await home(folder, 'publisher');
  await installTinyPackage(publisher, path.join(folder, 'project'), options);
  return { folder, publisher, customer: await home(folder, 'customer'), file: path.join(folder, 'a.tar') };
}

const save = (
  freehold: Freehold,
  file: string,
  options: Partial<SaveArchiveOptions> = {},
  names: string[] = [],
) => saveArchive(freehold, file, names, { signal, isWithoutProgram: true, ...options });

const restore = (freehold: Freehold, file: string, approved: ApprovedKeys = { kind: 'none' }) =>
  restoreArchive(freehold, file, { signal, approved });

const installed = async ({ store }: Freehold) => installedPackages(await store.entries()).map(fullReference);
const ALL: ApprovedKeys = { kind: 'all' };

describe('archive save, verify, restore', () => {
  test('a package with two variants comes back as it was, and runs through the same verification', async (context) => {
    const { publisher, customer, file } = await ground(context, { yaml: ['variants: [q8_0, f16]'] });
    const saved = await save(publisher, file);
    assert.deepEqual(saved.packages, ['acme/tiny@1.0.0#f16', 'acme/tiny@1.0.0#q8_0']);
    const restored = await restore(customer, file, ALL);
    assert.deepEqual(
      restored.packages.map(({ reference, isNew, how }) => [reference, isNew, how]),
      saved.packages.map((reference) => [reference, true, 'as signed']),
    );
    const digests = async ({ store }: Freehold) => (await store.entries()).map(({ digest }) => digest).sort();
    assert.deepEqual(await digests(customer), await digests(publisher));
    assert.equal((await verifyReference(customer, 'acme/tiny', signal)).length, 2);
    assert.ok((await customer.store.check()).findings.every(({ isDamage }) => !isDamage));
    assert.deepEqual(
      (await restore(customer, file)).packages.map(({ isNew }) => isNew),
      [false, false],
    );
  });

  test('the same packages give the same archive', async (context) => {
    const { publisher, folder, file } = await ground(context);
    const other = path.join(folder, 'b.tar');
    assert.equal((await save(publisher, file)).digest, (await save(publisher, other)).digest);
  });

  test('in parts', async (context) => {
    const { publisher, customer, file } = await ground(context);
    const { files } = await save(publisher, file, { partBytes: 500_000 });
    assert.ok(files.length > 3);
    await restore(customer, files[1] ?? '', ALL);
    assert.deepEqual(await installed(customer), ['acme/tiny@1.0.0#f32']);
  });

  test('a dry run writes nothing and tells the size', async (context) => {
    const { publisher, folder, file } = await ground(context);
    const before = await readdir(folder);
    const counted = await save(publisher, file, { isDryRun: true });
    assert.deepEqual([await readdir(folder), counted.files, counted.digest], [before, [], null]);
    assert.equal((await save(publisher, file)).sizeBytes, counted.sizeBytes);
  });

  test('one named variant, without the index of a version that it does not fill', async (context) => {
    const { publisher, customer, file } = await ground(context, { yaml: ['variants: [q8_0, f16]'] });
    await save(publisher, file, {}, ['acme/tiny#q8_0']);
    await restore(customer, file, ALL);
    assert.deepEqual(await installed(customer), ['acme/tiny@1.0.0#q8_0']);
    await assert.rejects(save(publisher, `${file}.b`, {}, ['acme/other']), code('MODEL_NOT_FOUND'));
    await assert.rejects(save(await home(path.dirname(file), 'empty'), `${file}.c`), code('MODEL_NOT_FOUND'));
  });

  test('what does not verify here does not go into an archive', async (context) => {
    const { publisher, folder, file } = await ground(context);
    await publisher.home.trust.remove({ kind: 'rule', pattern: 'acme/*' as never });
    await assert.rejects(save(publisher, file), code('SIGNER_UNTRUSTED'));
    assert.ok(!(await readdir(folder)).includes('a.tar'));
  });

  test('a damaged blob of the store is found before it travels', async (context) => {
    const { publisher, folder, file } = await ground(context);
    const [item] = installedPackages(await publisher.store.entries());
    const weights = item === undefined ? undefined : await largestBlob(publisher);
    assert.ok(weights !== undefined);
    await publisher.store.gc();
    const { chmod } = await import('node:fs/promises');
    await chmod(weights, 0o644);
    const bytes = await readFile(weights);
    bytes[1000] = (bytes[1000] ?? 0) ^ 1;
    await writeFile(weights, bytes);
    await assert.rejects(save(publisher, file), code('DIGEST_MISMATCH'));
    assert.ok(!(await readdir(folder)).some((name) => name.startsWith('a.tar')));
  });

  test('referrers travel with what they refer to', async (context) => {
    const { publisher, customer, file } = await ground(context);
    const [item] = installedPackages(await publisher.store.entries());
    assert.ok(item !== undefined);
    const note = await putNote(publisher, item.entry);
    await save(publisher, file);
    await restore(customer, file, ALL);
    const found = await customer.store.referrers(item.manifestDigest);
    assert.deepEqual(
      found.map(({ digest }) => digest),
      [note],
    );
    await customer.store.gc();
    assert.equal((await customer.store.referrers(item.manifestDigest)).length, 1);
  });
});

async function largestBlob({ store }: Freehold): Promise<string> {
  const folder = path.join(store.folder, 'blobs', 'sha256');
  const files = (await readdir(folder)).map((name) => path.join(folder, name));
  const sizes = await Promise.all(
    files.map(async (file) => ({ file, size: (await readFile(file)).byteLength })),
  );
  return sizes.sort((left, right) => right.size - left.size)[0]?.file ?? '';
}

/** A referrer without anything in it. */
async function putNote({ store }: Freehold, subject: { mediaType: string; digest: Digest; size: number }) {
  const config = Buffer.from('{}');
  await store.blobs.write(config);
  const bytes = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: 'application/vnd.oci.image.manifest.v1+json',
      artifactType: 'application/vnd.acme.note',
      config: { mediaType: 'application/vnd.oci.empty.v1+json', digest: Digest.of(config), size: 2 },
      layers: [],
      subject: { mediaType: subject.mediaType, digest: subject.digest, size: subject.size },
    }),
  );
  return (await store.blobs.write(bytes)).digest;
}

describe('trust', () => {
  test('an empty home trusts no key because an archive brings it: nothing is written, and the keys are shown', async (context) => {
    const { publisher, customer, file } = await ground(context);
    await save(publisher, file);
    const { displayFingerprint, fingerprint } = await publicKeyOf(publisher, TINY_KEY);
    const error = await restore(customer, file).catch((thrown: unknown) => thrown);
    assert.ok(code('SIGNER_UNTRUSTED')(error) && error instanceof FreeholdError);
    assert.ok(error.message.includes(displayFingerprint), error.message);
    assert.equal(error.detail.fingerprints, fingerprint);
    assert.match(error.hint, /--trust FINGERPRINT/);
    assert.deepEqual([await installed(customer), (await customer.home.trust.load()).rules], [[], []]);
    assert.deepEqual(await readdir(path.join(customer.store.folder, 'blobs', 'sha256')), []);
  });

  test('a key whose fingerprint was compared is trusted for the names of its rule', async (context) => {
    const { publisher, customer, file } = await ground(context);
    await save(publisher, file);
    const { fingerprint } = await publicKeyOf(publisher, TINY_KEY);
    const { trusted } = await restore(customer, file, { kind: 'named', fingerprints: [fingerprint] });
    assert.deepEqual(
      trusted.map(({ pattern }) => pattern),
      ['acme/*'],
    );
    assert.deepEqual(await installed(customer), ['acme/tiny@1.0.0#f32']);
  });

  test('another fingerprint helps nothing', async (context) => {
    const { publisher, customer, file, folder } = await ground(context);
    await save(publisher, file);
    const { fingerprint } = await createKey(await home(folder, 'stranger'), 'other');
    const approved: ApprovedKeys = { kind: 'named', fingerprints: [fingerprint] };
    await assert.rejects(restore(customer, file, approved), code('SIGNER_UNTRUSTED'));
  });

  test('a rule for everything becomes a rule for the one package', async (context) => {
    const { publisher, customer, file } = await ground(context);
    const { publicKeyPem } = await publicKeyOf(publisher, TINY_KEY);
    await publisher.home.trust.remove({ kind: 'rule', pattern: 'acme/*' as never });
    await addTrust(publisher, '*', publicKeyPem);
    await save(publisher, file);
    const { trusted } = await restore(customer, file, ALL);
    assert.deepEqual(
      trusted.map(({ pattern }) => pattern),
      ['acme/tiny'],
    );
  });

  test('what a home has decided about a name, no archive changes, whatever is approved', async (context) => {
    const { publisher, customer, file, folder } = await ground(context);
    await save(publisher, file);
    const { publicKeyPem } = await createKey(await home(folder, 'stranger'), 'real-acme');
    await addTrust(customer, 'acme/*', publicKeyPem);
    await assert.rejects(
      restore(customer, file, ALL),
      code('SIGNER_UNTRUSTED', /the rule for acme\/\* does not list/),
    );
    assert.deepEqual((await customer.home.trust.load()).rules.length, 1);
  });

  test('verify tells who is not trusted, and installs nothing', async (context) => {
    const { publisher, customer, file } = await ground(context);
    await save(publisher, file);
    const outcomes = async (freehold: Freehold) =>
      (await verifyArchive(freehold, file, signal)).packages.map(({ outcome }) => outcome);
    assert.deepEqual([await outcomes(publisher), await outcomes(customer)], [['trusted'], ['refused']]);
    assert.deepEqual(await installed(customer), []);
  });

  test('the trust document says nothing about rules that the packages do not need', async (context) => {
    const { publisher, file } = await ground(context);
    const { publicKeyPem } = await createKey(publisher, 'secret-project');
    await addTrust(publisher, 'secret/*', publicKeyPem);
    await save(publisher, file);
    assert.ok(!(await readFile(file, 'latin1')).includes('secret/*'));
  });
});

/** A catalog entry of the user's own for a model on this disk. */
async function catalogHome(folder: string, name: string, model: string): Promise<Freehold> {
  const bytes = await readFile(model);
  const made = await home(folder, name);
  const entry = {
    title: 'Tiny',
    description: 'Random weights, for tests.',
    fileName: path.basename(model),
    sizeBytes: bytes.byteLength,
    digest: Digest.of(bytes),
    license: 'Apache-2.0',
    licenseUrl: 'https://licenses.example/apache',
    mustAccept: false,
    parameterCount: 1000,
    architecture: 'llama',
    contextTokens: 128,
    quantization: 'F32',
    sources: [{ file: folder }],
  };
  await writeFile(path.join(made.home.path, 'mirrors.yaml'), stringify({ entries: { tiny: entry } }));
  return made;
}

describe('packages that a home has made for itself', () => {
  test('a catalog model needs no key: its weights are the pinned ones, and this home signs them', async (context) => {
    const folder = await temporaryFolder(context);
    const model = path.join(folder, 'tiny.gguf');
    await writeFile(model, await importableModel());
    const first = await catalogHome(folder, 'first', model);
    await installFromCatalog(first, 'tiny', { signal });
    const file = path.join(folder, 'a.tar');
    await save(first, file);
    const second = await catalogHome(folder, 'second', model);
    const { packages, trusted } = await restore(second, file);
    assert.deepEqual(
      packages.map(({ how }) => how),
      ['signed again'],
    );
    assert.deepEqual(trusted, []);
    const content = async (freehold: Freehold) =>
      (await verifyReference(freehold, 'tiny', signal))[0]?.contentDigest;
    assert.equal(await content(second), await content(first));

    const other = path.join(folder, 'other.gguf');
    await writeFile(other, await importableModel('Another'));
    const fourth = await catalogHome(folder, 'fourth', other);
    await assert.rejects(restore(fourth, file), code('SIGNER_UNTRUSTED'), 'the name alone is no pin');
    const third = await home(folder, 'third');
    await assert.rejects(
      restore(third, file),
      code('SIGNER_UNTRUSTED'),
      'whoever has no such entry needs the key',
    );
  });

  test("an imported model needs the approval of the other home's key, which is not trusted afterwards", async (context) => {
    const folder = await temporaryFolder(context);
    const model = path.join(folder, 'tiny.gguf');
    await writeFile(model, await importableModel());
    const [first, second] = [await home(folder, 'first'), await home(folder, 'second')];
    await installReference(first, `file:${model}`, { signal, isLicenseAccepted: true });
    const [reference] = await installed(first);
    assert.match(reference ?? '', /^local\/tiny/);
    const file = path.join(folder, 'a.tar');
    await save(first, file);
    await assert.rejects(restore(second, file), code('SIGNER_UNTRUSTED'));
    const { packages, trusted } = await restore(second, file, ALL);
    assert.deepEqual([packages, trusted], [[{ reference, isNew: true, how: 'signed again' }], []]);
    const [report] = await verifyReference(second, reference ?? '', signal);
    const own = await second.home.ensureHomeSigner();
    assert.equal(report?.fingerprint, own.privateKey.publicKey.fingerprint);
    const other = await first.home.ensureHomeSigner();
    const { rules } = await second.home.trust.load();
    const keys = rules.flatMap((rule) => rule.keys.map(({ fingerprint }) => fingerprint));
    assert.ok(!keys.includes(other.privateKey.publicKey.fingerprint));
  });
});

describe('incremental archives', () => {
  /** Version 1.0.0, an archive of it, and then 1.1.0 with the same weights and another licence. */
  async function versions(context: TestContext) {
    const found = await ground(context);
    await save(found.publisher, found.file);
    await installTinyPackage(found.publisher, path.join(found.folder, 'project'), {
      version: '1.1.0',
      files: { LICENSE: 'Some rights reserved.\n' },
    });
    return { ...found, newer: path.join(found.folder, 'b.tar') };
  }

  test('what the earlier one holds is left out, listed, and taken from the store', async (context) => {
    const { publisher, customer, file, newer } = await versions(context);
    const saved = await save(publisher, newer, { since: file });
    assert.deepEqual(saved.leftOut.archives, ['a.tar']);
    assert.ok(saved.leftOut.bytes > 1_000_000 && saved.sizeBytes < 100_000, JSON.stringify(saved.leftOut));
    await restore(customer, file, ALL);
    await restore(customer, newer);
    assert.deepEqual(await installed(customer), await installed(publisher));
    await verifyReference(customer, 'acme/tiny@1.1.0', signal);
  });

  test('without the earlier one nothing is installed, and it is named', async (context) => {
    const { publisher, customer, file, newer } = await versions(context);
    await save(publisher, newer, { since: file });
    const error = await restore(customer, newer, ALL).catch((thrown: unknown) => thrown);
    assert.ok(code('FILE_MISSING', /the earlier archive a.tar has it/)(error), String(error));
    assert.deepEqual([await installed(customer), (await customer.home.trust.load()).rules], [[], []]);
    const { leftOut, packages } = await verifyArchive(publisher, newer, signal);
    assert.ok(leftOut.some((blob) => blob.archive === 'a.tar' && blob.isInStore));
    assert.ok(packages.every(({ outcome }) => outcome === 'trusted'));
  });

  test('a third one after the second names the first for what only that has', async (context) => {
    const { publisher, customer, folder, file, newer } = await versions(context);
    await save(publisher, newer, { since: file });
    const third = path.join(folder, 'c.tar');
    const { leftOut } = await save(publisher, third, { since: newer });
    assert.deepEqual(leftOut.archives, ['a.tar', 'b.tar']);
    await assert.rejects(restore(customer, third, ALL), code('FILE_MISSING', /the earlier archive [ab].tar/));
  });
});

test('an archive that lies about its contents installs nothing wrong: documents are read, not lists', async (context) => {
  const { publisher, file } = await ground(context);
  await save(publisher, file);
  const archive = await openArchive(file);
  const contents = archive.layout.contents;
  assert.deepEqual(
    contents?.packages.map(({ name }) => name),
    ['acme/tiny'],
  );
  const source = archive.source('acme/tiny');
  const store = storePlace(publisher.store, 'acme/tiny');
  assert.deepEqual([...(await source.tags(signal))].sort(), [...(await store.tags(signal))].sort());
  await archive.close();
});
