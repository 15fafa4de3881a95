import assert from 'node:assert/strict';
import { readdir, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { createFakeEngine } from '../../src/io/engine/fake/fake-engine.ts';
import { openFreehold } from '../../src/surface/app/freehold.ts';
import { createModelHost } from '../../src/surface/app/model-host.ts';
import { serveHost } from '../../src/surface/server/serve-host.ts';
import { freehold, freeholdInProcess, outcomeOf, temporaryFolder } from '../fixtures/freehold-home.ts';
import { installTinyPackage } from '../fixtures/tiny-package.ts';

/** More would be the name itself. */
const MESSAGE_CHARACTERS_MAX = 1_000;

const HOSTILE_NAMES: Readonly<Record<string, string>> = {
  'a path up': '../../etc/passwd',
  'a path up in the middle': 'acme/../../x',
  'an absolute path': '/etc/passwd',
  'a backslash': '..\\x',
  NUL: 'acme/ti\0ny',
  'upper case': 'Acme/Tiny',
  'ten kilobytes': 'a'.repeat(10_240),
  'ten kilobytes of dots': '../'.repeat(3_400),
  'control characters': 'ti\u001b[31m\u0007ny\n',
  'the right-to-left override': 'ti\u202eny',
  'a device of Windows': 'con:',
  'an option': '-x',
  'a long option': '--home',
  blanks: 'a b',
  nothing: '',
  'other letters': 'tіny',
  'half a surrogate pair': 'ti\ud800ny',
  'a prototype': '__proto__',
  'a constructor': 'constructor',
  'a percent escape': 'acme%2ftiny',
  'a shell command': '$(touch x)',
  'too many slashes': 'a/b/c',
  'two variants': 'acme/tiny#q8_0#q4_0',
  'a bad version': 'acme/tiny@latest',
  'a hostile version': 'acme/tiny@../../x',
  'a hostile variant': 'acme/tiny#../../x',
  'a far catalog name': 'catalog:../../x',
};

/** Every place of the command line where a name stands. `folder` may be written to. */
const COMMANDS: Readonly<Record<string, (name: string, folder: string) => string[]>> = {
  run: (name) => ['run', '--', name, 'hello'],
  inspect: (name) => ['inspect', '--', name],
  export: (name, folder) => ['export', '--', name, path.join(folder, 'out')],
  verify: (name) => ['verify', '--', name],
  remove: (name) => ['remove', '--', name],
  install: (name) => ['install', '--', name],
  'install catalog:': (name) => ['install', '--', `catalog:${name}`],
  'catalog show': (name) => ['catalog', 'show', '--', name],
  sign: (name) => ['sign', '--key', 'acme', '--', name],
  'sign --key': (name) => ['sign', `--key=${name}`, 'acme/tiny'],
  'key new': (name) => ['key', 'new', '--', name],
  'key show': (name) => ['key', 'show', '--', name],
  'trust add': (name, folder) => ['trust', 'add', '--', name, path.join(folder, 'acme.pub')],
  'trust remove': (name) => ['trust', 'remove', '--', name],
  'init model --name': (name, folder) => ['init', 'model', `--name=${name}`, path.join(folder, 'made')],
};

/** Combinations that are fine: a key or a pattern may be named so, and these create what they should. */
const HARMLESS = new Set([
  'key new: a constructor',
  'trust add: a constructor',
  'init model --name: a constructor',
]);

describe('hostile names', () => {
  let home = '';
  let folder = '';
  const cleanups: (() => Promise<void>)[] = [];

  before(async () => {
    folder = await temporaryFolder({
      after: (cleanup: () => Promise<void>) => cleanups.push(cleanup),
    } as never);
    home = path.join(folder, 'home');
    const opened = await openFreehold({ env: {}, home });
    await installTinyPackage(opened, path.join(folder, 'tiny'));
    const { stdout } = await freehold(['key', 'show', 'acme'], { home });
    await writeFile(path.join(folder, 'acme.pub'), stdout);
  });
  after(async () => {
    for (const cleanup of cleanups) await cleanup();
  });

  for (const [command, words] of Object.entries(COMMANDS)) {
    test(`${command}: each is refused with 2 or 3, and nothing is made or changed`, async () => {
      const before = await listing(folder);
      for (const [what, name] of Object.entries(HOSTILE_NAMES)) {
        if (HARMLESS.has(`${command}: ${what}`)) continue;
        const result = await freeholdInProcess(words(name, folder), home);
        const shown = `${what}: ${result.code} ${result.stderr}`;
        assert.ok(result.code === 2 || result.code === 3, shown);
        assert.match(outcomeOf(result), /^[A-Z_]+$/, shown);
        assert.ok(
          result.stderr.length < MESSAGE_CHARACTERS_MAX,
          `${what}: ${result.stderr.length} characters`,
        );
        assert.doesNotMatch(result.stderr, /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202a-\u202e]/, shown);
        assert.equal(result.stdout, '', shown);
      }
      assert.deepEqual(await listing(folder), before);
    });
  }

  test('words that look like options, without a "--" before them, are wrong usage', async () => {
    for (const words of [
      ['run', '-x'],
      ['inspect', '--hom'],
      ['remove', '--force', 'acme/tiny'],
      ['key', 'new', '-'],
      ['nonsense'],
      ['catalog'],
      ['run'],
      [],
    ]) {
      const result = await freeholdInProcess(words, home);
      assert.equal(result.code, 2, `${words.join(' ')}: ${result.stderr}`);
    }
  });

  test('over HTTP such a model is not found', async () => {
    const host = createModelHost(await openFreehold({ env: {}, home }), { engine: createFakeEngine() });
    const server = await serveHost({ host, listen: '127.0.0.1:0' });
    try {
      for (const [what, model] of Object.entries(HOSTILE_NAMES)) {
        const response = await fetch(`${server.url}/v1/chat/completions`, {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify({ model, messages: [{ role: 'user', content: 'hi' }] }),
        });
        const text = await response.text();
        assert.ok(response.status === 400 || response.status === 404, `${what}: ${response.status} ${text}`);
        assert.ok(text.length < MESSAGE_CHARACTERS_MAX, what);
        assert.equal(typeof (JSON.parse(text) as { error: { message: string } }).error.message, 'string');
      }
    } finally {
      await server.close({ graceMs: 0 });
      await host.close();
    }
  });
});

/** Names, sizes and times of everything below a folder; records of the engine's checks aside. */
async function listing(folder: string): Promise<string[]> {
  const names = (await readdir(folder, { recursive: true })).filter(
    (name) => !/\/(locks|tmp|verified)(\/|$)/.test(name),
  );
  const lines = await Promise.all(
    names.map(async (name) => {
      const found = await stat(path.join(folder, name));
      return `${name} ${found.isFile() ? `${found.size} ${found.mtimeMs}` : 'folder'}`;
    }),
  );
  return lines.sort();
}
