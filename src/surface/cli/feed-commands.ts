import type { Command } from 'commander';
import type { FeedRefresh, FeedState } from '../app/catalog-feeds.ts';
import { readTextFile } from '../app/local-file.ts';
import type { AddAction } from './program.ts';
import { harmless, type Terminal, table } from './terminal.ts';

/** A public key in PEM is a few hundred bytes. */
const KEY_FILE_BYTES_MAX = 16 * 1024;

/** `catalog add-source`, `remove-source`, `sources`, `refresh`, `sign`. */
export function registerFeedCommands(catalog: Command, add: AddAction): void {
  add(
    catalog
      .command('add-source')
      .argument('<name>', 'what its models begin with: acme gives catalog:acme.NAME')
      .argument('<place>', 'https address or file of a signed catalog feed')
      .requiredOption('--key <file>', 'public key of its publisher in PEM')
      .description('add a catalog of somebody else, signed with a key that you know'),
    async ({ freehold, terminal, signal }, [name = '', place = ''], options: { key: string }) => {
      const { addFeed } = await import('../app/catalog-feeds.ts');
      const publicKeyPem = await readTextFile(options.key, { bytesMax: KEY_FILE_BYTES_MAX });
      const feed = await addFeed(freehold, { name, place, publicKeyPem }, signal);
      terminal.result(
        feed,
        `added ${feed.name}: ${feed.entryCount} models, issue ${feed.sequence}\nfingerprint ${feed.displayFingerprint}`,
      );
      terminal.note('compare the fingerprint with the one that the publisher told you');
      return 0;
    },
  );
  add(
    catalog.command('remove-source').argument('<name>').description('forget a catalog of somebody else'),
    async ({ freehold, terminal }, [name = '']) => {
      const { removeFeed } = await import('../app/catalog-feeds.ts');
      await removeFeed(freehold, name);
      terminal.result({ name }, `removed ${name}; models that were installed from it stay`);
      return 0;
    },
  );
  add(catalog.command('sources').description('catalogs of others'), async ({ freehold, terminal }) => {
    const { listFeeds } = await import('../app/catalog-feeds.ts');
    const states = await listFeeds(freehold);
    terminal.result(states, sourcesText(terminal, states));
    return 0;
  });
  add(
    catalog
      .command('refresh')
      .argument('[name]', 'one source; default: all')
      .description('fetch the newest issue of catalogs of others'),
    async ({ freehold, terminal, signal, progress }, [name]) => {
      const { refreshFeeds } = await import('../app/catalog-feeds.ts');
      const refreshed = await refreshFeeds(freehold, name, signal);
      progress.clear();
      terminal.result(
        refreshed.map(refreshJson),
        refreshed.map((item) => refreshLine(terminal, item)).join('\n'),
      );
      // The first failure decides about the exit code; the others were named.
      return refreshed.find(({ error }) => error !== undefined)?.error?.exitCode ?? 0;
    },
  );
  add(
    catalog
      .command('sign')
      .argument('<file>', 'a feed as YAML or JSON')
      .requiredOption('--key <name>', 'a key of `freehold key list`')
      .option('--output <file>', 'default: FILE.signed.json')
      .description('for publishers: sign a catalog feed'),
    async ({ freehold, terminal }, [file = ''], options: { key: string; output?: string }) => {
      const { signFeedFile } = await import('../app/catalog-feeds.ts');
      const signed = await signFeedFile(freehold, file, options.key, options.output);
      terminal.result(
        signed,
        `signed issue ${signed.sequence} of ${signed.feed}, ${signed.entryCount} models: ${harmless(signed.path)}`,
      );
      return 0;
    },
  );
}

function sourcesText(terminal: Terminal, states: readonly FeedState[]): string {
  if (states.length === 0)
    return 'no catalogs of others: freehold catalog add-source NAME URL --key PUBKEY.pem';
  const rows = states.map((state) =>
    state.kind === 'usable'
      ? [
          state.name,
          String(state.entryCount),
          String(state.sequence),
          `${state.expires.slice(0, 10)}${state.isExpired ? ' (expired)' : ''}`,
          harmless(state.place),
        ]
      : [state.name, '-', '-', harmless(state.reason), harmless(state.place)],
  );
  return table(terminal, ['NAME', 'MODELS', 'ISSUE', 'UNTIL', 'FROM'], rows);
}

function refreshLine(terminal: Terminal, { name, summary, error }: FeedRefresh): string {
  if (summary !== undefined) return `${name}: issue ${summary.sequence}, ${summary.entryCount} models`;
  const reason = error === undefined ? 'unknown' : `${harmless(error.message)} [${error.code}]`;
  const hint = error === undefined ? '' : `\n  ${harmless(error.hint)}`;
  return `${terminal.paint('bad', name)}: not refreshed, what is known stays: ${reason}${hint}`;
}

function refreshJson({ name, summary, error }: FeedRefresh) {
  return error === undefined
    ? { name, ...summary }
    : { name, error: { code: error.code, message: error.message, hint: error.hint } };
}
