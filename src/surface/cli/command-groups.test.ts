import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Command } from 'commander';
import { registerCommands } from './command-groups.ts';
import type { AddAction } from './program.ts';

const add: AddAction = () => {};

async function verbsFor(argv: readonly string[]): Promise<string[]> {
  const program = new Command();
  await registerCommands(program, add, argv);
  return program.commands.map((command) => command.name());
}

test('each verb finds its own command, with the same neighbours as always', async () => {
  const all = await verbsFor([]);
  assert.ok(all.length > 10);
  assert.equal(new Set(all).size, all.length);
  for (const verb of all) {
    const found = await verbsFor([verb]);
    assert.ok(found.includes(verb), verb);
    assert.ok(found.length < all.length, `${verb} loads everything`);
  }
});

test('global options before the verb change nothing', async () => {
  const list = await verbsFor(['list']);
  assert.deepEqual(await verbsFor(['--json', '--quiet', 'list']), list);
  assert.deepEqual(await verbsFor(['--home', 'run', 'list']), list);
  assert.deepEqual(await verbsFor(['--home=run', '--mirrors', 'serve', 'list', 'run']), list);
});

test('help, and a verb that nobody knows, have all of them; the version needs none', async () => {
  const all = await verbsFor([]);
  for (const argv of [['--help'], ['help'], ['lst'], ['--json'], ['help', 'list']]) {
    assert.deepEqual(await verbsFor(argv), all, argv.join(' '));
  }
  assert.deepEqual(await verbsFor(['--version']), []);
  assert.deepEqual(await verbsFor(['-V']), []);
});
