import fs from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { Digest } from '../../src/core/base/digest.ts';
import type { ErrorCode } from '../../src/core/base/error-table.ts';
import { FreeholdError } from '../../src/core/base/errors.ts';
import { ggmlType } from '../../src/core/format/gguf/ggml-types.ts';
import { ggufParts } from '../../src/core/format/gguf/gguf-writer.ts';
import type { CatalogEntry, Source } from '../../src/io/fetch/catalog-entry.ts';
import { fetchEntry } from '../../src/io/fetch/fetch-entry.ts';
import { buildPackage } from '../../src/surface/app/build-package.ts';
import { exportPackage } from '../../src/surface/app/export-package.ts';
import { type Freehold, openFreehold } from '../../src/surface/app/freehold.ts';
import { installFromCatalog } from '../../src/surface/app/install-catalog.ts';
import { installFromFolder } from '../../src/surface/app/install-folder.ts';
import { addTrust, createKey } from '../../src/surface/app/keys-and-trust.ts';
import { signPackages } from '../../src/surface/app/sign-package.ts';
import { checkStore, collectGarbage, removeInstalled } from '../../src/surface/app/store-upkeep.ts';
import { verifyReference } from '../../src/surface/app/verify-package.ts';
import { seededRandom } from '../fixtures/random.ts';
import { tinyModelContent } from '../fixtures/tiny-model.ts';
import { writeTinyProject } from '../fixtures/tiny-package.ts';
import { TRANSFER_OPERATIONS } from './transfer-operations.ts';
import { UPDATE_OPERATIONS } from './update-operations.ts';

/** An operation of the product, and what it starts from. */
export interface CrashOperation {
  readonly name: string;
  /** Makes of a copy of the common home what the operation needs. Absent: the common home as it is. */
  readonly prepare?: (ground: CrashGround, home: string) => Promise<void>;
  readonly run: (ground: CrashGround, home: string) => Promise<unknown>;
  /** What a second run answers when the first one had got through. */
  readonly doneAlready?: ErrorCode;
  /** There is no home yet. */
  readonly isFirstStart?: boolean;
  /** What is demanded besides what holds for every home. */
  readonly verify?: (home: string, isAtEnd: boolean) => Promise<void>;
  /** Where the file system cannot share blocks, the test does as if it could. */
  readonly grantsReflinks?: boolean;
  /** What was damaged before need not be sound until the operation has got through. */
  readonly repairs?: boolean;
}

/** Files outside of every home that the operations need; made once. */
export interface CrashGround {
  readonly folder: string;
  /** A home with one signed package, `acme/kept`, and the key `acme` that is trusted for `acme/*`. */
  readonly home: string;
  /** Projects to build: the name is part of the package's. */
  project(name: string): string;
  /** An exported and signed package, `acme/brought`. */
  readonly exported: string;
  /** The file of the one entry that the catalog has. */
  readonly catalogFile: string;
  /** Where it can be had by HTTP. */
  readonly url: string;
}

const { signal } = new AbortController();
/** Of the server that has the catalog's file. */
export const CATALOG_ETAG = '"1"';
const LICENSE = 'The same in every package, so that two of them need one blob.\n';

/** The ground in a folder where `makeCrashGround` made it, perhaps in another process. */
export function crashGround(folder: string, url: string): CrashGround {
  return {
    folder,
    home: path.join(folder, 'home'),
    project: (name) => path.join(folder, 'projects', name),
    exported: path.join(folder, 'exported'),
    catalogFile: path.join(folder, 'catalog.gguf'),
    url,
  };
}

/** @param url of `catalogFile` */
export async function makeCrashGround(folder: string, url: string): Promise<CrashGround> {
  fs.mkdirSync(folder, { recursive: true });
  const ground = crashGround(folder, url);
  const { project } = ground;
  await writeFile(ground.catalogFile, await smallModelBytes(99));
  await writeProject(project('kept'), 'kept', 1);
  await writeProject(project('other'), 'other', 2, ['variants: [{ name: a }, { name: b }]']);
  await writeProject(project('other-now'), 'other', 3);
  await writeProject(project('brought'), 'brought', 4);
  const freehold = await openFreehold({ env: {}, home: ground.home });
  const { publicKeyPem } = await createKey(freehold, 'acme');
  await addTrust(freehold, 'acme/*', publicKeyPem);
  for (const name of ['kept', 'brought']) {
    await buildPackage(freehold, project(name), { mayReplace: false, signal });
    await signPackages(freehold, `acme/${name}`, 'acme', signal);
  }
  await exportPackage(freehold, 'acme/brought', ground.exported, signal);
  await removeInstalled(freehold, 'acme/brought', false);
  return ground;
}

/** A model of 45 KB that passes verification; no block of it is zeros, so that a lost one is noticed. */
async function smallModelBytes(seed: number): Promise<Buffer> {
  const random = seededRandom(seed);
  const tiny = tinyModelContent({ blocks: 1 });
  const [embedding, ...others] = tiny.tensors;
  if (embedding === undefined) throw new Error('a model has embeddings');
  const content = {
    ...tiny,
    tensors: [
      { ...embedding, type: ggmlType('q4_0') },
      ...others.filter(({ name }) => name === 'output_norm.weight'),
    ],
  };
  const parts = ggufParts(content, ({ sizeBytes }) =>
    Uint8Array.from({ length: sizeBytes }, () => random.below(256)),
  );
  return Buffer.concat(await Array.fromAsync(parts));
}

async function writeProject(folder: string, name: string, seed: number, yaml: readonly string[] = []) {
  fs.mkdirSync(folder, { recursive: true });
  await writeFile(path.join(folder, 'small.gguf'), await smallModelBytes(seed));
  await writeFile(path.join(folder, 'LICENSE'), LICENSE);
  const lines = [
    ...[`name: acme/${name}`, 'version: 1.0.0', 'license: LicenseRef-Acme', 'weights: small.gguf'],
    ...['files: [LICENSE]', ...yaml],
  ];
  await writeFile(path.join(folder, 'model.yaml'), `${lines.join('\n')}\n`);
}

const exportedBeside = (home: string) => path.join(path.dirname(home), 'exported', 'kept');

export const openHomeAt = (home: string): Promise<Freehold> => openFreehold({ env: {}, home });

async function build(ground: CrashGround, home: string, name: string, mayReplace = false) {
  await buildPackage(await openHomeAt(home), ground.project(name), { mayReplace, signal });
}

/** The only entry of the catalog: a model of a few kilobytes. */
async function entryFrom({ catalogFile }: CrashGround, source: Source): Promise<CatalogEntry> {
  const weights = await readFile(catalogFile);
  return {
    ...{ name: 'small', title: 'Small', description: 'A model for tests.', fileName: 'small.gguf' },
    ...{ sizeBytes: weights.byteLength, digest: Digest.of(weights), sources: [source] },
    ...{ license: 'Apache-2.0', mustAccept: false },
  } as unknown as CatalogEntry;
}

async function installCatalog(ground: CrashGround, home: string) {
  const entry = await entryFrom(ground, { kind: 'file', path: ground.catalogFile });
  const freehold = await openHomeAt(home);
  const catalog = async () => ({ list: () => [entry], find: () => entry, faults: [] });
  await installFromCatalog({ ...freehold, catalog }, 'small', { isLicenseAccepted: true, signal });
}

async function fetchByHttp(ground: CrashGround, home: string) {
  const entry = await entryFrom(ground, { kind: 'url', url: ground.url, allowHttp: true });
  const cacheFolder = await (await openHomeAt(home)).home.folder('cache');
  await fetchEntry(entry, { cacheFolder, environment: {} });
}

/** The first half of the catalog's file, with what is noted beside it. */
async function beginFetch(ground: CrashGround, home: string) {
  const cache = await (await openHomeAt(home)).home.folder('cache');
  const bytes = await readFile(ground.catalogFile);
  const file = path.join(cache, `${Digest.hex(Digest.of(bytes))}.partial`);
  await writeFile(file, bytes.subarray(0, 5000), { mode: 0o600 });
  const sidecar = { source: Digest.of(`url\0${ground.url}`), etag: CATALOG_ETAG };
  await writeFile(`${file}.json`, JSON.stringify(sidecar), { mode: 0o600 });
}

const signOther = async (home: string) => signPackages(await openHomeAt(home), 'acme/other', 'acme', signal);
const remove = async (home: string, name: string) => removeInstalled(await openHomeAt(home), name, false);

/** Leaves blobs, documents, temporary files and a record behind that nothing needs. */
async function litter(ground: CrashGround, home: string) {
  await build(ground, home, 'other');
  const { store } = await openHomeAt(home);
  await store.updateEntries((entries) =>
    entries.filter(({ annotations = {} }) => annotations['org.freehold.name'] !== 'acme/other'),
  );
  await writeFile(path.join(store.folder, 'tmp', '99999-0123456789abcdef'), 'half a blob');
  fs.mkdirSync(path.join(store.folder, 'verified'), { recursive: true });
  await writeFile(path.join(store.folder, 'verified', `${'0'.repeat(64)}.json`), '{}');
}

/** The weights of `acme/kept`, which are the largest blob, lose their last byte. */
async function damage(home: string) {
  const folder = path.join(home, 'store', 'blobs', 'sha256');
  const sizes = fs.readdirSync(folder).map((name): [string, number] => {
    const file = path.join(folder, name);
    return [file, fs.statSync(file).size];
  });
  const [file, sizeBytes] = sizes.reduce((most, each) => (each[1] > most[1] ? each : most));
  fs.chmodSync(file, 0o644);
  fs.truncateSync(file, sizeBytes - 1);
  fs.chmodSync(file, 0o444);
}

export const CRASH_OPERATIONS: readonly CrashOperation[] = [
  {
    name: 'build in a home that is not there yet',
    isFirstStart: true,
    run: (ground, home) => build(ground, home, 'other'),
  },
  { name: 'build', run: (ground, home) => build(ground, home, 'other') },
  { name: 'build with reflinks', grantsReflinks: true, run: (ground, home) => build(ground, home, 'other') },
  {
    name: 'build in the place of another content',
    prepare: (ground, home) => build(ground, home, 'other'),
    run: (ground, home) => build(ground, home, 'other-now', true),
  },
  {
    name: 'build over a damaged blob',
    prepare: (_ground, home) => damage(home),
    repairs: true,
    run: (ground, home) => build(ground, home, 'kept'),
  },
  {
    name: 'sign',
    prepare: (ground, home) => build(ground, home, 'other'),
    run: (_ground, home) => signOther(home),
  },
  {
    name: 'install a folder',
    run: async (ground, home) => installFromFolder(await openHomeAt(home), ground.exported, signal),
  },
  {
    name: 'install from the catalog in a home that is not there yet',
    isFirstStart: true,
    run: installCatalog,
  },
  { name: 'install from the catalog', run: installCatalog },
  {
    name: 'export',
    doneAlready: 'ALREADY_EXISTS',
    run: async (_ground, home) =>
      exportPackage(await openHomeAt(home), 'acme/kept', exportedBeside(home), signal),
    async verify(home, isAtEnd) {
      const folder = exportedBeside(home);
      if (!isAtEnd && !fs.existsSync(folder)) return;
      await verifyReference(await openHomeAt(home), `file:${folder}`, signal);
    },
  },
  { name: 'fetch', run: fetchByHttp },
  {
    name: 'fetch what was half fetched',
    prepare: beginFetch,
    run: fetchByHttp,
  },
  {
    name: 'remove',
    doneAlready: 'MODEL_NOT_FOUND',
    async prepare(ground, home) {
      await build(ground, home, 'other');
      await signOther(home);
    },
    run: (_ground, home) => remove(home, 'acme/other'),
  },
  {
    name: 'remove the last package',
    doneAlready: 'MODEL_NOT_FOUND',
    run: (_ground, home) => remove(home, 'acme/kept'),
  },
  {
    name: 'gc',
    prepare: litter,
    run: async (_ground, home) => collectGarbage(await openHomeAt(home), false),
  },
  {
    name: 'check',
    prepare: litter,
    run: async (_ground, home) => checkStore(await openHomeAt(home), signal),
  },
  {
    name: 'make a key in a home that is not there yet',
    isFirstStart: true,
    doneAlready: 'ALREADY_EXISTS',
    run: async (_ground, home) => createKey(await openHomeAt(home), 'second'),
  },
  {
    name: 'make a key',
    doneAlready: 'ALREADY_EXISTS',
    run: async (_ground, home) => createKey(await openHomeAt(home), 'second'),
  },
  {
    name: 'trust a key',
    async run(ground, home) {
      const pem = await readFile(path.join(ground.home, 'keys', 'acme.pub'), 'utf8');
      return addTrust(await openHomeAt(home), 'other/*', pem);
    },
  },
  ...UPDATE_OPERATIONS,
  ...TRANSFER_OPERATIONS,
];

/** Its child writes as well, which no recorder in this process sees: it can be killed, but not replayed. */
export const QUANTIZE: CrashOperation = {
  name: 'build with quantization',
  async prepare(ground) {
    // Here: nobody else needs its three megabytes. Once: another kill may be reading them.
    if (fs.existsSync(ground.project('quantized'))) return;
    await writeTinyProject(ground.project('quantized'), {
      name: 'acme/quantized',
      yaml: ['variants: [q8_0]'],
    });
  },
  run: (ground, home) => build(ground, home, 'quantized'),
};

export const crashOperationNamed = (name: string) => operationNamed(CRASH_OPERATIONS, name);
export const killableOperationNamed = (name: string) => operationNamed([...CRASH_OPERATIONS, QUANTIZE], name);

function operationNamed(operations: readonly CrashOperation[], name: string): CrashOperation {
  const found = operations.find((operation) => operation.name === name);
  if (found === undefined) throw new Error(`no operation ${name}`);
  return found;
}

/** The second run, after a crash. @throws what it throws, but that it was done already */
export async function retry(operation: CrashOperation, ground: CrashGround, home: string): Promise<void> {
  try {
    await operation.run(ground, home);
  } catch (thrown) {
    if (!(thrown instanceof FreeholdError) || thrown.code !== operation.doneAlready) throw thrown;
  }
}
