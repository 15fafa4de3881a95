/**
 * Another process that uses a store, for tests: `node store-child.ts STORE COMMAND [ARGUMENT…]`. Prints one line of JSON
 * when it is ready or done; ends with 1 and prints the code of the error otherwise.
 */
import { once } from 'node:events';
import { toFreeholdError } from '../../src/core/base/errors.ts';
import { openStore, type Store } from '../../src/io/store/store.ts';
import { install, withoutEntry } from './store-fixture.ts';

const LOCK_TIMEOUT_MS = 20_000;

function say(line: unknown): void {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

const COMMANDS: Readonly<Record<string, (store: Store, argument: string) => Promise<void>>> = {
  /** Adds five entries, one update each. */
  async add(store, prefix) {
    for (let number = 0; number < 5; number++) await install(store, `${prefix}-${number}`, { a: prefix });
    say('done');
  },
  /** Imports a file. */
  async import(store, file) {
    say(await store.importFile(file, { how: { kind: 'reflink-or-copy' } }));
  },
  /** Writes a blob under a lease and adds no entry until a line arrives on the standard input. */
  async lease(store, text) {
    await store.withLease(async () => {
      say(await store.blobs.write(Buffer.from(text)));
      await once(process.stdin, 'data');
      await install(store, 'late', { text });
    });
    process.stdin.destroy();
    say('done');
  },
  /** Installs, removes and collects for ever; somebody kills it. */
  async churn(store, seed) {
    say('started');
    for (let round = 0; ; round++) {
      const name = `m${round % 4}`;
      await install(store, name, { weights: `${seed}-${round}`.repeat(2000), card: `card ${round % 3}` });
      if (round % 3 === 2) await store.updateEntries((entries) => withoutEntry(entries, name));
      if (round % 5 === 4) await store.gc();
    }
  },
};

async function main([folder = '', command = '', argument = '']: readonly string[]): Promise<void> {
  try {
    // As an ordinary user, when the test runs as root, to whom nothing is forbidden. Late, so that our own sources
    // can be read wherever they lie.
    if (command === 'unprivileged') {
      process.setgid?.(65534);
      process.setuid?.(65534);
      await install(await openStore(folder), 'any', { a: 'b' });
      return say('done');
    }
    const store = await openStore(folder, { lockTimeoutMs: LOCK_TIMEOUT_MS });
    await COMMANDS[command]?.(store, argument);
  } catch (thrown) {
    const error = toFreeholdError(thrown);
    say({ code: error.code, message: error.message });
    process.exitCode = 1;
  }
}

await main(process.argv.slice(2));
