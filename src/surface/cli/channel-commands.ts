import type { Command } from 'commander';
import { FreeholdError } from '../../core/base/errors.ts';
import { SEVERITIES } from '../../core/format/channel-documents.ts';
import type { PublishedChannels } from '../app/channel-workplace.ts';
import { collect, integer } from './option-values.ts';
import type { AddAction, CommandContext } from './program.ts';
import { harmless, table } from './terminal.ts';

/** What every command takes that talks to a registry. */
interface RegistryFlags {
  readonly plainHttp?: boolean;
  readonly dryRun?: boolean;
}

interface KeyFlags {
  readonly key?: string;
  readonly rootKey?: string[];
  readonly rootThreshold?: number;
  readonly targetsKey?: string[];
  readonly targetsThreshold?: number;
  readonly onlineKey?: string[];
}

interface DayFlags {
  readonly rootDays?: number;
  readonly targetsDays?: number;
  readonly onlineDays?: number;
}

interface AdviceFlags {
  readonly severity?: string;
  readonly affected?: string;
  readonly title?: string;
  readonly action?: string;
  readonly fixedIn?: string;
  readonly url?: string;
  readonly withdraw?: boolean;
}

const KEYS_MAX = 32;
const DAYS_MAX = 3650;
/** Metadata of a root are a few KiB. */
const ROOT_BYTES_MAX = 512_000;

// Imported when needed: the metadata library is a third of a start.
const publishing = () => import('../app/channel-publish.ts');

/** `channel`: what a publisher offers, and whose word a customer takes for it. */
export function registerChannelCommands(program: Command, add: AddAction): void {
  const channel = program
    .command('channel')
    .description('what publishers offer: stable, lts-2026, edge; with notices and withdrawn versions');
  registerCreation(channel, add);
  registerReleases(channel, add);
  registerNotices(channel, add);
  registerUpkeep(channel, add);
  registerTrust(channel, add);
}

function registerCreation(channel: Command, add: AddAction): void {
  const command = channel
    .command('create')
    .argument('<name>', 'the package')
    .argument('<repository>', 'where it is pushed to: oci://HOST/NAME')
    .option('--key <name>', 'the key for every role that none is named for')
    .option('--root-days <days>', 'for how long a root counts', integer(1, DAYS_MAX))
    .option('--targets-days <days>', 'for how long what is offered counts', integer(1, DAYS_MAX))
    .option('--online-days <days>', 'for how long a renewal counts', integer(1, DAYS_MAX))
    .description('make the channels of a package, signed with keys of this home');
  add(
    withKeys(withPublishing(command)),
    async (context, [name = '', repository = ''], flags: KeyFlags & DayFlags & RegistryFlags) => {
      const { createPackageChannels } = await publishing();
      const days = { root: flags.rootDays, targets: flags.targetsDays, online: flags.onlineDays };
      const keys = { ...keyChoice(flags), key: flags.key };
      const options = await channelOptions(context, flags);
      return show(
        context,
        await createPackageChannels(context.freehold, name, repository, keys, days, options),
        flags,
      );
    },
  );
}

function registerReleases(channel: Command, add: AddAction): void {
  add(
    withPublishing(
      channel
        .command('promote')
        .argument('<model>', 'NAME@VERSION, pushed already')
        .argument('<channel>', 'stable, lts-2026, …')
        .option('--rollout <percent>', 'of all devices, how many get it', integer(0, 100), 100)
        .option('--suite <text>', 'what to try it with, for people; may be repeated', collect)
        .description('offer a version, to everybody or to some at first'),
    ),
    async (
      context,
      [model = '', name = ''],
      flags: RegistryFlags & { rollout: number; suite?: string[] },
    ) => {
      const { promoteRelease } = await publishing();
      const choice = {
        rolloutPercent: flags.rollout,
        ...(flags.suite === undefined ? {} : { suites: flags.suite }),
      };
      const options = await channelOptions(context, flags);
      return show(context, await promoteRelease(context.freehold, model, name, choice, options), flags);
    },
  );
  add(
    withPublishing(
      channel
        .command('yank')
        .argument('<model>', 'NAME@VERSION')
        .option('--reason <text>', 'why, for people')
        .option('--undo', 'take it back')
        .option('--unseen', 'also a version that neither a channel, this home nor the registry has')
        .description('withdraw a version from every channel'),
    ),
    async (
      context,
      [model = ''],
      flags: RegistryFlags & { reason?: string; undo?: boolean; unseen?: boolean },
    ) => {
      const { yankVersion } = await publishing();
      if (flags.undo !== true && flags.reason === undefined) {
        throw new FreeholdError('USAGE', 'customers will ask why', { hint: '--reason TEXT' });
      }
      const change =
        flags.undo === true
          ? { kind: 'undo' as const }
          : { kind: 'yank' as const, reason: flags.reason ?? '', isUnseen: flags.unseen === true };
      return show(
        context,
        await yankVersion(context.freehold, model, change, await channelOptions(context, flags)),
        flags,
      );
    },
  );
}

function registerNotices(channel: Command, add: AddAction): void {
  add(
    withPublishing(
      channel
        .command('advise')
        .argument('<name>', 'the package')
        .argument('<id>', 'the number of the notice: ACME-2026-001')
        .option('--severity <severity>', SEVERITIES.join(', '))
        .option('--affected <range>', 'versions, for example "<1.4.1"')
        .option('--title <text>', 'what is wrong')
        .option('--action <text>', 'what to do')
        .option('--fixed-in <version>', 'the first version without it')
        .option('--url <address>', 'more about it')
        .option('--withdraw', 'take the notice back')
        .description('tell customers what is wrong with a version, and what to do'),
    ),
    async (context, [name = '', id = ''], flags: RegistryFlags & AdviceFlags) => {
      const { adviseVersions } = await publishing();
      const options = await channelOptions(context, flags);
      const change =
        flags.withdraw === true
          ? { kind: 'withdraw' as const, id }
          : { kind: 'advise' as const, advisory: noticeOf(id, flags) };
      return show(context, await adviseVersions(context.freehold, name, change, options), flags);
    },
  );
}

function noticeOf(id: string, flags: AdviceFlags) {
  const { affected, title, action, fixedIn, url } = flags;
  const severity = SEVERITIES.find((name) => name === flags.severity);
  if (severity === undefined || affected === undefined || title === undefined || action === undefined) {
    throw new FreeholdError(
      'USAGE',
      'a notice says how grave it is, what it affects, what is wrong and what to do',
      {
        hint: `--severity ${SEVERITIES.join('|')} --affected RANGE --title TEXT --action TEXT`,
      },
    );
  }
  return {
    ...{ id, severity, affected, title, action },
    ...(fixedIn === undefined ? {} : { fixedIn }),
    ...(url === undefined ? {} : { url }),
  };
}

function registerUpkeep(channel: Command, add: AddAction): void {
  add(
    withPublishing(
      channel
        .command('renew')
        .argument('<name>', 'the package')
        .option('--all', 'what is offered as well, which needs the key of the targets')
        .description('sign anew what is about to end; run it from a timer'),
    ),
    async (context, [name = ''], flags: RegistryFlags & { all?: boolean }) => {
      const { renewPackageChannels } = await publishing();
      const options = { ...(await channelOptions(context, flags)), isEverything: flags.all === true };
      return show(context, await renewPackageChannels(context.freehold, name, options), flags);
    },
  );
  add(
    withKeys(
      withPublishing(
        channel
          .command('rotate')
          .argument('<name>', 'the package')
          .option(
            '--recover',
            'after a theft of keys: from what this home published last, with numbers that begin anew',
          )
          .description('sign the next root: with other keys, or with the same ones for longer'),
      ),
    ),
    async (context, [name = ''], flags: RegistryFlags & KeyFlags & { recover?: boolean }) => {
      const { rotateKeys } = await publishing();
      const choice = { ...keyChoice(flags), isRecovery: flags.recover === true };
      return show(
        context,
        await rotateKeys(context.freehold, name, choice, await channelOptions(context, flags)),
        flags,
      );
    },
  );
  add(
    withRegistry(
      channel
        .command('list')
        .argument('<name>', 'the package')
        .description('what this home publishes of a package'),
    ),
    async (context, [name = ''], flags: RegistryFlags) => {
      const { publishedChannels } = await publishing();
      return show(
        context,
        await publishedChannels(context.freehold, name, await channelOptions(context, flags)),
      );
    },
  );
  add(
    withRegistry(
      channel
        .command('show')
        .argument('<name>', 'the package')
        .option('--print-root', 'the newest root itself, to give to customers')
        .description('the roots with their digests, keys and dates'),
    ),
    async (context, [name = ''], flags: RegistryFlags & { printRoot?: boolean }) => {
      const { publishedChannels } = await publishing();
      const published = await publishedChannels(context.freehold, name, await channelOptions(context, flags));
      if (flags.printRoot !== true) return showRoots(context, published);
      const text = published.newestRoot.toString('utf8').trimEnd();
      context.terminal.result(JSON.parse(text), text);
      return 0;
    },
  );
}

function registerTrust(channel: Command, add: AddAction): void {
  add(
    withRegistry(
      channel
        .command('trust')
        .argument('<name>', 'the package')
        .argument('[repository]', 'oci://HOST/NAME, with --digest')
        .option('--root <file>', 'a root that the publisher gave out')
        .option('--digest <digest>', 'sha256:… of a root, as freehold channel show prints it')
        .description('whose word counts for the channels of a package, instead of what trust.yaml says'),
    ),
    async (context, [name = '', repository], flags: RegistryFlags & { root?: string; digest?: string }) => {
      const { trustRootDigest, trustRootFile } = await import('../app/channel-trust.ts');
      const { freehold, terminal, signal } = context;
      const { root, digest } = flags;
      if (
        (root === undefined) === (digest === undefined) ||
        (digest !== undefined) !== (repository !== undefined)
      ) {
        throw new FreeholdError('USAGE', 'which root?', {
          hint: `freehold channel trust ${name} --root FILE, or freehold channel trust ${name} oci://HOST/NAME --digest sha256:…`,
        });
      }
      const facts =
        root !== undefined
          ? await trustRootFile(freehold, name, await readRootFile(root, signal))
          : await trustRootDigest(
              freehold,
              name,
              repository ?? '',
              digest ?? '',
              await channelOptions(context, flags),
            );
      terminal.result(
        facts,
        `root ${facts.version} of the channels of ${name} is trusted\n  ${facts.digest}\n  ends ${facts.expires.slice(0, 10)}`,
      );
      terminal.note('compare the digest with the one that the publisher told you');
      return 0;
    },
  );
}

async function readRootFile(file: string, signal: AbortSignal): Promise<Buffer> {
  const { readTextFile } = await import('../app/local-file.ts');
  return Buffer.from(await readTextFile(file, { bytesMax: ROOT_BYTES_MAX, signal }));
}

function withRegistry(command: Command): Command {
  return command.option('--plain-http', 'a registry without TLS, not on this machine');
}

function withKeys(command: Command): Command {
  return command
    .option('--root-key <name>', 'for the root, which is kept in a safe; may be repeated', collect)
    .option('--root-threshold <count>', 'how many of them must sign', integer(1, KEYS_MAX))
    .option('--targets-key <name>', 'for what is offered; may be repeated', collect)
    .option('--targets-threshold <count>', 'how many of them must sign', integer(1, KEYS_MAX))
    .option('--online-key <name>', 'for what is renewed often; may be repeated', collect);
}

/** For what writes to a registry. */
function withPublishing(command: Command): Command {
  return withRegistry(command).option(
    '--dry-run',
    'sign and show what would be published, and write nothing',
  );
}

const keyChoice = (flags: KeyFlags) => ({
  root: flags.rootKey,
  rootThreshold: flags.rootThreshold,
  targets: flags.targetsKey,
  targetsThreshold: flags.targetsThreshold,
  online: flags.onlineKey,
});

/** How the use cases of channels and updates reach registries. */
export async function channelOptions({ signal }: Pick<CommandContext, 'signal'>, flags: RegistryFlags) {
  const { registryAccess } = await import('../app/channel-refresh.ts');
  const access = registryAccess({ plainHttp: flags.plainHttp === true });
  return { signal, access, isDryRun: flags.dryRun === true };
}

function show(
  { terminal, progress }: CommandContext,
  { name, contents, expires, repaired }: PublishedChannels,
  { dryRun = false }: RegistryFlags = {},
): number {
  progress.clear();
  if (repaired !== undefined) {
    terminal.note(
      `${harmless(repaired)}; what this home knows ${dryRun ? 'would be' : 'was'} published again`,
    );
  }
  if (dryRun) terminal.note('nothing was published; it would be:');
  const channels = [...contents.channels.values()];
  const rows = channels.flatMap(({ channel, releases }) =>
    releases.map((release) => [
      channel,
      release.version,
      `${release.rolloutPercent} %`,
      release.promoted.slice(0, 10),
    ]),
  );
  const lines = [
    `${name}: counts until ${expires.slice(0, 10)}`,
    rows.length === 0
      ? 'nothing is offered yet'
      : table(terminal, ['CHANNEL', 'VERSION', 'ROLLOUT', 'SINCE'], rows),
    ...contents.yanked.map(({ version, reason }) => `yanked ${version}: ${harmless(reason)}`),
    ...contents.advisories.map(
      ({ id, severity, affected, title }) => `${severity} ${id} ${harmless(`${affected}: ${title}`)}`,
    ),
  ];
  terminal.result(
    { name, expires, channels, yanked: contents.yanked, advisories: contents.advisories },
    lines.join('\n'),
  );
  return 0;
}

function showRoots(
  { terminal, progress }: CommandContext,
  { name, roots, expires }: PublishedChannels,
): number {
  progress.clear();
  const lines = roots.flatMap((root) => [
    `root ${root.version}  ${root.digest}  ends ${root.expires.slice(0, 10)}`,
    ...root.displayKeys.map((key) => `  ${key}`),
    `  ${root.threshold} of ${root.rootKeys.length} must sign`,
  ]);
  terminal.result({ name, expires, roots }, lines.join('\n'));
  return 0;
}
