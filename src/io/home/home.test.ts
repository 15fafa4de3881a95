import assert from 'node:assert/strict';
import { execFile, spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, beforeEach, test } from 'node:test';
import { promisify } from 'node:util';
import { generatePrivateKey, parsePrivateKey } from '../../core/crypto/keys.ts';
import { decideTrust, parseTrustPattern } from '../../core/crypto/trust-policy.ts';
import { openHome, resolveHomePath } from './home.ts';
import { parseKeyName } from './key-store.ts';

const root = mkdtempSync(path.join(tmpdir(), 'freehold-home-'));
chmodSync(root, 0o755);
after(() => rmSync(root, { recursive: true, force: true }));

let homePath = root;
let count = 0;
beforeEach(() => {
  homePath = path.join(root, `home-${count++}`);
});

const modeOf = (file: string) => (statSync(file).mode & 0o777).toString(8);
const MODULE = path.join(import.meta.dirname, 'home.ts');

/** Runs code with `home` opened in another process; gives its last line of output, an error as `CODE message`. */
const program = (code: string) => `
  try {
    const { openHome } = await import(${JSON.stringify(MODULE)});
    const home = await openHome(process.argv[1]);
    ${code}
  } catch (error) {
    console.log(error.code + ' ' + error.message);
  }`;
const nodeArguments = (code: string, where: string) => ['--input-type=module', '-e', program(code), where];

test('where the home is: command line, then FREEHOLD_HOME, then ~/.freehold', () => {
  const env = { FREEHOLD_HOME: '/env/home', HOME: '/home/ann' };
  assert.equal(resolveHomePath(env, '/explicit'), '/explicit');
  assert.equal(resolveHomePath(env), '/env/home');
  assert.equal(resolveHomePath({ ...env, FREEHOLD_HOME: '' }), '/home/ann/.freehold');
  assert.ok(path.isAbsolute(resolveHomePath({})));
  assert.equal(resolveHomePath(env, 'relative'), path.resolve('relative'));
  for (const odd of ['', '~', '~/x', 'a\0b']) {
    assert.throws(() => resolveHomePath({}, odd), { code: 'CONFIG_INVALID', hint: /absolute path/ });
  }
  assert.throws(() => resolveHomePath({ FREEHOLD_HOME: '~/models' }), { code: 'CONFIG_INVALID' });
});

test('a new home and its folders have mode 0700, keys 0600; opening makes nothing else', async () => {
  const home = await openHome(path.join(homePath, 'deep', 'er'));
  assert.equal(modeOf(home.path), '700');
  assert.deepEqual(readdirSync(home.path), []);
  assert.equal(modeOf(await home.folder('store')), '700');
  assert.equal(await home.folder('store'), path.join(home.path, 'store'));
  assert.equal(home.mirrorsPath, path.join(home.path, 'mirrors.yaml'));
  const key = await home.keys.create('acme-release');
  assert.equal(modeOf(path.dirname(key.privateKeyPath)), '700');
  assert.equal(modeOf(key.privateKeyPath), '600');
  assert.equal(readFileSync(key.publicKeyPath, 'utf8'), key.privateKey.publicKey.pem);
  const stored = parsePrivateKey(readFileSync(key.privateKeyPath, 'utf8'), 'x');
  assert.equal(stored.publicKey.fingerprint, key.privateKey.publicKey.fingerprint);
});

test('a home that others may write to is refused, with the command that repairs it', async () => {
  mkdirSync(homePath);
  for (const mode of [0o777, 0o770, 0o702, 0o720]) {
    chmodSync(homePath, mode);
    await assert.rejects(openHome(homePath), { code: 'PERMISSION_DENIED', hint: `chmod go-w ${homePath}` });
  }
  chmodSync(homePath, 0o755);
  const home = await openHome(homePath);
  await home.keys.create('a');
  chmodSync(path.join(homePath, 'keys'), 0o770);
  for (const use of [() => home.keys.load('a'), () => home.keys.list(), () => home.keys.create('b')]) {
    await assert.rejects(use(), { code: 'PERMISSION_DENIED', message: /keys is writable by other users/ });
  }
});

test('a home may be a link to another disk, whose rights count', async () => {
  const target = `${homePath}-target`;
  mkdirSync(target, { mode: 0o700 });
  symlinkSync(target, homePath);
  await (await openHome(homePath)).keys.create('a');
  chmodSync(target, 0o777);
  await assert.rejects(openHome(homePath), { code: 'PERMISSION_DENIED' });
});

test('a file where the home or one of its folders should be is said to be one', async () => {
  writeFileSync(homePath, 'x');
  await assert.rejects(openHome(homePath), {
    code: 'ALREADY_EXISTS',
    message: /a file is in its place/,
    hint: /--home/,
  });
  await assert.rejects(openHome(path.join(homePath, 'below')), { code: 'ALREADY_EXISTS' });
  rmSync(homePath);
  const home = await openHome(homePath);
  writeFileSync(path.join(homePath, 'keys'), 'x');
  await assert.rejects(home.keys.create('a'), { code: 'ALREADY_EXISTS' });
});

test('a place where no folder can be made is an error, not an endless loop', {
  skip: !existsSync('/proc/self') && 'no /proc: nothing here refuses a new folder with ENOENT',
  timeout: 10_000,
}, async () => {
  await assert.rejects(openHome('/proc/freehold/home'), {
    code: 'NOT_FOUND',
    message: /cannot create \/proc\/freehold/,
  });
});

test('key names are plain, and "home" is kept', async () => {
  for (const name of ['a', 'acme-release', 'acme.2026_1', 'x'.repeat(64)])
    assert.equal(parseKeyName(name), name);
  const home = await openHome(homePath);
  for (const name of [
    '',
    '.',
    '..',
    '../a',
    'a/b',
    'A',
    'a b',
    '-a',
    'a-',
    'a..b',
    'a\0',
    'ä',
    'x'.repeat(65),
    'x'.repeat(10_000),
  ]) {
    await assert.rejects(home.keys.create(name), { code: 'NAME_INVALID' }, name);
    await assert.rejects(home.keys.load(name), { code: 'NAME_INVALID' }, name);
  }
  await assert.rejects(home.keys.create('home'), {
    code: 'NAME_INVALID',
    message: /kept for the home's own key/,
  });
  assert.equal(existsSync(path.join(homePath, 'keys')), false);
});

test('keys: listed by name, loaded, never overwritten, missing ones named', async () => {
  const home = await openHome(homePath);
  assert.deepEqual(await home.keys.list(), []);
  await assert.rejects(home.keys.load('a'), { code: 'NOT_FOUND', message: 'there is no key "a"' });
  const b = await home.keys.create('b');
  const a = await home.keys.loadOrCreate('a');
  assert.deepEqual(
    (await home.keys.list()).map(({ name }) => name),
    ['a', 'b'],
  );
  await assert.rejects(home.keys.create('b'), { code: 'ALREADY_EXISTS', message: /key "b" already/ });
  assert.equal(
    (await home.keys.load('b')).privateKey.publicKey.fingerprint,
    b.privateKey.publicKey.fingerprint,
  );
  assert.equal(
    (await home.keys.loadOrCreate('a')).privateKey.publicKey.fingerprint,
    a.privateKey.publicKey.fingerprint,
  );
  assert.deepEqual(readdirSync(path.join(homePath, 'keys')).sort(), ['a.key', 'a.pub', 'b.key', 'b.pub']);
});

test('a private key that others can read, or that is none, is refused', async () => {
  const home = await openHome(homePath);
  const { privateKeyPath } = await home.keys.create('a');
  chmodSync(privateKeyPath, 0o640);
  await assert.rejects(home.keys.load('a'), {
    code: 'PERMISSION_DENIED',
    hint: `chmod 600 ${privateKeyPath}`,
  });
  await assert.rejects(home.keys.list(), { code: 'PERMISSION_DENIED' });
  chmodSync(privateKeyPath, 0o600);
  writeFileSync(privateKeyPath, generatePrivateKey().publicKey.pem);
  await assert.rejects(home.keys.load('a'), {
    code: 'KEY_INVALID',
    message: /a\.key: holds a PEM "PUBLIC KEY"/,
  });
});

test('the home’s own key is made once, is trusted for catalog and imported names only, and trust that was taken back stays so', async () => {
  const home = await openHome(homePath);
  const signers = await Promise.all(Array.from({ length: 5 }, () => home.ensureHomeSigner()));
  const { fingerprint } = signers[0]?.privateKey.publicKey ?? assert.fail();
  for (const signer of signers) assert.equal(signer.privateKey.publicKey.fingerprint, fingerprint);
  const policy = await home.trust.load();
  assert.equal(policy.rules.length, 2);
  assert.equal(decideTrust(policy, 'catalog/smollm2', fingerprint).kind, 'trusted');
  assert.equal(decideTrust(policy, 'local/smollm2', fingerprint).kind, 'trusted');
  for (const name of ['acme/triage', 'catalog', 'smollm2']) {
    assert.equal(decideTrust(policy, name, fingerprint).kind, 'untrusted', name);
  }
  for (const pattern of ['catalog/*', 'local/*']) {
    await home.trust.remove({ kind: 'rule', pattern: parseTrustPattern(pattern) });
  }
  assert.equal((await home.ensureHomeSigner()).privateKey.publicKey.fingerprint, fingerprint);
  assert.deepEqual((await home.trust.load()).rules, []);
});

/** A home as it was when the home's key was good for `catalog/*` only. */
async function olderHome() {
  const home = await openHome(homePath);
  const { privateKey } = await home.ensureHomeSigner();
  await home.trust.remove({ kind: 'rule', pattern: parseTrustPattern('local/*') });
  rmSync(path.join(homePath, 'keys', 'home.grants'));
  return { home, key: privateKey.publicKey };
}

test('a home from before imported models: its key becomes good for them, once', async () => {
  const { home, key } = await olderHome();
  await home.ensureHomeSigner();
  assert.equal(decideTrust(await home.trust.load(), 'local/x', key.fingerprint).kind, 'trusted');
  await home.trust.remove({ kind: 'rule', pattern: parseTrustPattern('local/*') });
  await home.ensureHomeSigner();
  assert.equal(decideTrust(await home.trust.load(), 'local/x', key.fingerprint).kind, 'untrusted');
});

test('a home whose user took all trust from the home key: it does not come back for imported models', async () => {
  const { home, key } = await olderHome();
  await home.trust.remove({ kind: 'key', fingerprint: key.fingerprint });
  await home.ensureHomeSigner();
  for (const name of ['catalog/x', 'local/x']) {
    assert.equal(decideTrust(await home.trust.load(), name, key.fingerprint).kind, 'untrusted', name);
  }
});

test('a rule that a person wrote for local/* is not widened', async () => {
  const { home, key } = await olderHome();
  const own = generatePrivateKey().publicKey;
  await home.trust.add('local/*', own.pem);
  await home.ensureHomeSigner();
  const policy = await home.trust.load();
  assert.equal(decideTrust(policy, 'local/x', own.fingerprint).kind, 'trusted');
  assert.equal(decideTrust(policy, 'local/x', key.fingerprint).kind, 'untrusted');
});

test('a home key that was deleted: the next one is trusted in its place', async () => {
  const home = await openHome(homePath);
  await home.ensureHomeSigner();
  rmSync(path.join(homePath, 'keys', 'home.key'));
  const { fingerprint } = (await home.ensureHomeSigner()).privateKey.publicKey;
  for (const name of ['catalog/x', 'local/x']) {
    assert.equal(decideTrust(await home.trust.load(), name, fingerprint).kind, 'trusted', name);
  }
});

test('processes that start at once agree on one home key', { timeout: 60_000 }, async () => {
  const code = 'console.log((await home.ensureHomeSigner()).privateKey.publicKey.fingerprint);';
  const run = () => promisify(execFile)(process.execPath, nodeArguments(code, homePath));
  const outputs = await Promise.all([run(), run(), run(), run()]);
  const home = await openHome(homePath);
  const { fingerprint } = (await home.ensureHomeSigner()).privateKey.publicKey;
  assert.deepEqual([...new Set(outputs.map(({ stdout }) => stdout.trim()))], [fingerprint]);
  assert.equal((await home.trust.load()).rules[0]?.keys.length, 1);
});

/** Permissions mean nothing to root, so as root the code runs as nobody. */
function asOrdinaryUser(code: string, where: string): string {
  const isRoot = process.getuid?.() === 0;
  const { stdout, stderr } = spawnSync(process.execPath, nodeArguments(code, where), {
    encoding: 'utf8',
    ...(isRoot ? { uid: 65534, gid: 65534, cwd: '/' } : {}),
  });
  return stdout.trim() || stderr;
}

const isRunnableByOthers =
  process.getuid?.() !== 0 ||
  spawnSync(process.execPath, ['-e', `require('fs').accessSync(${JSON.stringify(MODULE)})`], {
    uid: 65534,
    gid: 65534,
    cwd: '/',
  }).status === 0;
const noOrdinaryUser = isRunnableByOthers ? false : 'the checkout is not readable for an ordinary user';

test('without permission: a home that cannot be made, read or written', { skip: noOrdinaryUser }, () => {
  const ordinary = process.getuid?.() === 0 ? 65534 : (process.getuid?.() ?? 0);
  mkdirSync(homePath, { mode: 0o700 });
  chownSync(homePath, ordinary, ordinary);
  const inside = path.join(homePath, 'h');
  assert.equal(asOrdinaryUser('await home.ensureHomeSigner(); console.log("made");', inside), 'made');
  chmodSync(inside, 0o500);
  assert.match(asOrdinaryUser('await home.trust.add("a", "");', inside), /^KEY_INVALID /);
  assert.match(
    asOrdinaryUser('await home.trust.remove({ kind: "rule", pattern: "catalog/*" });', inside),
    /^PERMISSION_DENIED not allowed to write .*trust\.yaml \(EACCES\)$/,
  );
  assert.equal(
    asOrdinaryUser(
      'console.log((await home.trust.load()).rules.length, (await home.keys.list()).length);',
      inside,
    ),
    '2 1',
  );
  chmodSync(homePath, 0o500);
  assert.match(
    asOrdinaryUser('', path.join(homePath, 'new')),
    /^PERMISSION_DENIED not allowed to create .*new \(EACCES\)$/,
  );
  chmodSync(homePath, 0o000);
  assert.match(asOrdinaryUser('', inside), /^PERMISSION_DENIED not allowed to (?:open|create) /);
});

test('an ordinary user refuses a home that belongs to another one', {
  skip: noOrdinaryUser || (process.getuid?.() !== 0 && 'needs root to give a folder away'),
}, () => {
  mkdirSync(homePath, { mode: 0o755 });
  chmodSync(homePath, 0o755);
  chownSync(homePath, 12345, 12345);
  assert.match(
    asOrdinaryUser('', homePath),
    /^PERMISSION_DENIED .* belongs to user 12345, this is user 65534$/,
  );
});

/** Runs code over a fresh 64 KiB file system, in a mount namespace of its own. */
const onSmallDisk = (before: string, code: string) =>
  spawnSync(
    'unshare',
    [
      '--mount',
      ...(process.getuid?.() === 0 ? [] : ['--map-root-user']),
      'sh',
      '-ec',
      `mount -t tmpfs -o size=64k,mode=0700 none "$0"; ${before}; exec "$@"`,
      homePath,
      process.execPath,
      ...nodeArguments(code, homePath),
    ],
    { encoding: 'utf8' },
  );
const hasNamespaces = (() => {
  const probe = mkdtempSync(path.join(tmpdir(), 'freehold-mount-'));
  const flags = process.getuid?.() === 0 ? [] : ['--map-root-user'];
  const result = spawnSync('unshare', ['--mount', ...flags, 'mount', '-t', 'tmpfs', 'none', probe]);
  rmSync(probe, { recursive: true });
  return result.status === 0;
})();
const noNamespaces = hasNamespaces ? false : 'mount namespaces are not allowed here';

test('a full disk: DISK_FULL, and what was there before is whole', { skip: noNamespaces }, () => {
  mkdirSync(homePath);
  const result = onSmallDisk(
    ':',
    `const { writeFileSync, readFileSync, readdirSync, rmSync } = await import('node:fs');
     const key = await home.keys.create('a');
     await home.trust.add('acme/*', key.privateKey.publicKey.pem);
     const before = readFileSync(home.trust.path, 'utf8');
     try { writeFileSync(home.path + '/filler', Buffer.alloc(1 << 20)); } catch {}
     const codes = [];
     for (const use of [() => home.keys.create('b'), () => home.trust.add('b/*', key.privateKey.publicKey.pem)])
       await use().catch((error) => codes.push(error.code));
     const same = readFileSync(home.trust.path, 'utf8') === before;
     console.log(codes.join(), same, readdirSync(home.path + '/keys').join(), readdirSync(home.path).length);`,
  );
  assert.equal(result.stdout.trim(), 'DISK_FULL,DISK_FULL true a.key,a.pub 4', result.stderr);
});

test('a read-only home can be used, and says why it cannot be changed', { skip: noNamespaces }, () => {
  mkdirSync(homePath);
  const code = `console.log((await home.trust.load()).rules.length, (await home.keys.list()).length);
    for (const use of [() => home.keys.create('b'), () => home.folder('store')])
      await use().catch((error) => console.log(error.code + ' ' + error.message));`;
  const result = onSmallDisk('mount -o remount,ro "$0"', code);
  const [read, create, folder] = result.stdout.trim().split('\n');
  assert.equal(read, '0 0', result.stderr);
  assert.match(create ?? '', /^PERMISSION_DENIED cannot lock .*: the file system is read-only$/);
  assert.match(folder ?? '', /^PERMISSION_DENIED cannot create .*store: the file system is read-only$/);
});

test('kill -9 at any moment of making the home key leaves a home that works', {
  timeout: 60_000,
}, async () => {
  const code =
    'for (;;) { await home.ensureHomeSigner(); const fs = await import("node:fs"); fs.rmSync(home.path + "/keys/home.key"); }';
  for (let round = 0; round < 6; round++) {
    const child = execFile(process.execPath, nodeArguments(code, homePath));
    while (!existsSync(path.join(homePath, 'trust.yaml')))
      await new Promise((resolve) => setTimeout(resolve, 5));
    await new Promise((resolve) => setTimeout(resolve, Math.random() * 60));
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGKILL');
    await ended;
    const home = await openHome(homePath);
    const { fingerprint } = (await home.ensureHomeSigner()).privateKey.publicKey;
    assert.equal(decideTrust(await home.trust.load(), 'catalog/x', fingerprint).kind, 'trusted');
    // Whoever writes next cleans up.
    await home.keys.create('next');
    await home.trust.add('next/*', generatePrivateKey().publicKey.pem);
    const leftovers = readdirSync(homePath, { recursive: true }).filter((name) =>
      String(name).endsWith('.tmp'),
    );
    assert.deepEqual(leftovers, []);
    rmSync(homePath, { recursive: true });
  }
});
