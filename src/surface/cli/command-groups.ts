import type { Command } from 'commander';
import type { AddAction } from './program.ts';

type Register = (program: Command, add: AddAction) => void;

/** Verbs by the file that has them, in the order of `freehold help`. A test compares with what the files register. */
const GROUPS: readonly { readonly verbs: readonly string[]; readonly load: () => Promise<Register> }[] = [
  {
    verbs: ['up', 'run', 'serve', 'doctor'],
    load: async () => (await import('./serve-commands.ts')).registerServeCommands,
  },
  {
    verbs: ['catalog'],
    load: async () => (await import('./catalog-commands.ts')).registerCatalogCommands,
  },
  {
    verbs: ['install', 'pull'],
    load: async () => (await import('./install-commands.ts')).registerInstallCommands,
  },
  {
    verbs: ['init', 'build', 'inspect', 'export'],
    load: async () => (await import('./package-commands.ts')).registerPackageCommands,
  },
  {
    verbs: ['push'],
    load: async () => (await import('./registry-commands.ts')).registerRegistryCommands,
  },
  {
    verbs: ['sign', 'verify', 'key', 'trust'],
    load: async () => (await import('./trust-commands.ts')).registerTrustCommands,
  },
  {
    verbs: ['add', 'lock'],
    load: async () => (await import('./lock-commands.ts')).registerLockCommands,
  },
  {
    verbs: ['diff'],
    load: async () => (await import('./diff-commands.ts')).registerDiffCommands,
  },
  {
    verbs: ['archive', 'mirror'],
    load: async () => (await import('./archive-commands.ts')).registerArchiveCommands,
  },
  {
    verbs: ['update', 'channel'],
    load: async () => (await import('./update-commands.ts')).registerUpdateCommands,
  },
  {
    verbs: ['list', 'remove', 'check', 'gc'],
    load: async () => (await import('./store-commands.ts')).registerStoreCommands,
  },
];

/** Global options that take a value. */
const WITH_VALUE = ['--home', '--mirrors', '--limit-rate'];

/** Registers the commands of the file that has the verb of this command line; all of them where it has none that is known. */
export async function registerCommands(
  program: Command,
  add: AddAction,
  argv: readonly string[],
): Promise<void> {
  const verb = verbOf(argv);
  // The version is printed without any.
  if (verb === undefined && argv.some((word) => word === '--version' || word === '-V')) return;
  const group = GROUPS.find(({ verbs }) => verb !== undefined && verbs.includes(verb));
  for (const { load } of group === undefined ? GROUPS : [group]) (await load())(program, add);
}

/** The first word that is neither a global option nor the value of one. */
function verbOf(argv: readonly string[]): string | undefined {
  for (let index = 0; index < argv.length; index++) {
    const word = argv[index] ?? '';
    if (!word.startsWith('-')) return word;
    if (WITH_VALUE.includes(word)) index++;
  }
  return undefined;
}
