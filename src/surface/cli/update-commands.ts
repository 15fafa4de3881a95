import type { Command } from 'commander';
import type { FreeholdError } from '../../core/base/errors.ts';
import type { ApplyOutcome } from '../app/update-apply.ts';
import type { UpdateStatus } from '../app/update-check.ts';
import { channelOptions, registerChannelCommands } from './channel-commands.ts';
import { number } from './option-values.ts';
import type { AddAction, CommandContext } from './program.ts';
import { formatBytes, harmless, table } from './terminal.ts';
import { noticeLines } from './version-notices.ts';

interface CheckFlags {
  readonly exitCode?: boolean;
  readonly now?: boolean;
  readonly plainHttp?: boolean;
}

interface ApplyFlags {
  readonly now?: boolean;
  readonly allowDowngrade?: boolean;
  readonly suite?: string;
  readonly minScore?: number;
  readonly plainHttp?: boolean;
}

const PLAIN_HTTP = ['--plain-http', 'a registry without TLS, not on this machine'] as const;

/** `update`, `channel`. */
export function registerUpdateCommands(program: Command, add: AddAction): void {
  const update = program
    .command('update')
    .description('newer versions from the channels that packages follow, and back');
  registerFollowing(update, add);
  registerCheck(update, add);
  registerApply(update, add);
  registerRollback(update, add);
  registerChannelCommands(program, add);
}

function registerFollowing(update: Command, add: AddAction): void {
  add(
    update
      .command('follow')
      .argument('<name>', 'the package')
      .argument('<repository>', 'where its channels are: oci://HOST/NAME')
      .argument('<channel>', 'stable, lts-2026, …')
      .option(...PLAIN_HTTP)
      .description('take updates of a package from a channel'),
    async (context, [name = '', repository = '', channel = ''], flags: CheckFlags) => {
      const { followChannel } = await import('../app/channel-trust.ts');
      await followChannel(context.freehold, name, repository, channel, await channelOptions(context, flags));
      context.progress.clear();
      context.terminal.result(
        { name, from: repository, channel },
        `${name} follows ${channel} of ${repository}`,
      );
      return 0;
    },
  );
  add(
    update.command('unfollow').argument('<name>', 'the package').description('take no updates any more'),
    async ({ freehold, terminal }, [name = '']) => {
      const { unfollowChannel } = await import('../app/channel-trust.ts');
      await unfollowChannel(freehold, name);
      terminal.result({ name }, `${name} follows no channel any more`);
      return 0;
    },
  );
}

function registerCheck(update: Command, add: AddAction): void {
  add(
    update
      .command('check')
      .argument('[model...]', 'packages that follow a channel; none: all of them')
      .option('--now', 'do not wait for a staged rollout')
      .option('--exit-code', 'exit with 1 when there is something to do')
      .option(...PLAIN_HTTP)
      .description('what the channels have, and what publishers say of the versions in use'),
    async (context, names, flags: CheckFlags) => {
      const { checkUpdates } = await import('../app/update-check.ts');
      const options = { ...(await channelOptions(context, flags)), now: flags.now === true };
      const rows = await checkUpdates(context.freehold, names, options);
      context.progress.clear();
      context.terminal.result(rows.map(statusJson), checkText(context, rows));
      const failure = rows.find((row) => row.failure !== undefined)?.failure;
      if (failure !== undefined) return failure.exitCode;
      return flags.exitCode === true && rows.some(needsAction) ? 1 : 0;
    },
  );
}

const needsAction = ({ offer, advisories, yankedBecause }: UpdateStatus) =>
  offer?.kind === 'update' ||
  offer?.kind === 'retreat' ||
  advisories.length > 0 ||
  yankedBecause !== undefined;

function statusJson({ followed, offer, failure, ...row }: UpdateStatus) {
  const { from, channel } = followed;
  return {
    ...row,
    channel,
    from: `oci://${from.host}/${from.repository}`,
    ...(offer === undefined ? {} : { offer }),
    ...(failure === undefined ? {} : { error: errorJson(failure) }),
  };
}

const errorJson = ({ code, message, hint }: FreeholdError) => ({ code, message, hint });

function checkText({ terminal }: CommandContext, rows: readonly UpdateStatus[]): string {
  if (rows.length === 0)
    return 'no package follows a channel: freehold update follow NAME oci://HOST/NAME CHANNEL';
  const header = ['NAME', 'INSTALLED', 'AVAILABLE', 'CHANNEL', 'SIZE', 'STATE'];
  const cells = rows.map((row) => [
    row.name,
    row.installed ?? '-',
    availableText(row),
    row.followed.channel,
    sizeText(row),
    stateText(row),
  ]);
  const notices = rows.flatMap((row) => noticeLines(terminal, `${row.name}@${row.installed ?? ''}`, row));
  const failures = rows.flatMap(({ name, failure }) =>
    failure === undefined ? [] : failureLines(terminal, name, failure),
  );
  return [table(terminal, header, cells), ...notices, ...failures].join('\n');
}

function availableText({ offer }: UpdateStatus): string {
  return offer !== undefined && 'release' in offer ? offer.release.version : '-';
}

function sizeText({ offer }: UpdateStatus): string {
  if (offer?.kind !== 'update' && offer?.kind !== 'retreat') return '-';
  const sizes = offer.release.variants.flatMap(({ sizeBytes }) => sizeBytes ?? []);
  return sizes.length === 0
    ? '-'
    : `${formatBytes(Math.min(...sizes))}${sizes.length > 1 ? ' and more' : ''}`;
}

function stateText({ offer, failure, isStored, installed }: UpdateStatus): string {
  if (failure !== undefined) return `not known [${failure.code}]`;
  const stored = isStored ? ', as of the last check' : '';
  switch (offer?.kind) {
    case 'update':
      return `${installed === undefined ? 'to install' : 'update'}${stored}`;
    case 'retreat':
      return `to go back to${stored}`;
    case 'current':
      return `up to date${stored}`;
    case 'ahead':
      return `the channel is older${stored}`;
    case 'waiting':
      return `${offer.release.rolloutPercent} % have it so far${stored}`;
    case 'declined':
      return offer.held === 'refused' ? 'its suite refused it here' : 'was rolled back here';
    default:
      return `nothing is offered${stored}`;
  }
}

const failureLines = (terminal: CommandContext['terminal'], name: string, failure: FreeholdError) => [
  `${terminal.paint('bad', 'error')} ${name}: ${harmless(failure.message)} [${failure.code}]`,
  `  hint: ${harmless(failure.hint)}`,
];

function registerApply(update: Command, add: AddAction): void {
  add(
    update
      .command('apply')
      .argument(
        '[model...]',
        'NAME, or NAME@VERSION for one that was declined before; none: all that follow a channel',
      )
      .option('--now', 'do not wait for a staged rollout')
      .option('--allow-downgrade', 'also an older version than the one in use')
      .option('--suite <file>', 'cases that an update must pass, instead of those that freehold.yaml names')
      .option('--min-score <share>', 'right answers that it must reach, from 0 to 1', number(0, 1))
      .option(...PLAIN_HTTP)
      .description('take what the channels offer: fetched, verified, tried, and only then in use'),
    async (context, names, flags: ApplyFlags) => {
      const { applyUpdates } = await import('../app/update-apply.ts');
      const { withSuiteChecks } = await import('../app/update-acceptance.ts');
      const choice = {
        folder: process.cwd(),
        suite: flags.suite,
        minScore: flags.minScore,
        signal: context.signal,
      };
      const outcomes = await withSuiteChecks(context.freehold, choice, async (acceptance) =>
        applyUpdates(context.freehold, names, {
          ...(await channelOptions(context, flags)),
          now: flags.now === true,
          mayDowngrade: flags.allowDowngrade === true,
          acceptance,
        }),
      );
      context.progress.clear();
      context.terminal.result(outcomes.map(outcomeJson), applyText(context, outcomes));
      const failed = outcomes.find((outcome) => outcome.kind === 'failed');
      if (failed !== undefined) return failed.failure.exitCode;
      return outcomes.some(({ kind }) => kind === 'refused') ? 1 : 0;
    },
  );
}

function outcomeJson(outcome: ApplyOutcome) {
  if (outcome.kind !== 'failed') return outcome;
  const { failure, ...rest } = outcome;
  return { ...rest, error: errorJson(failure) };
}

function applyText({ terminal }: CommandContext, outcomes: readonly ApplyOutcome[]): string {
  if (outcomes.length === 0) return 'no package follows a channel';
  return outcomes.flatMap((outcome) => outcomeLines(terminal, outcome)).join('\n');
}

function outcomeLines(terminal: CommandContext['terminal'], outcome: ApplyOutcome): string[] {
  const { name } = outcome;
  switch (outcome.kind) {
    case 'updated': {
      const { from, to } = outcome.activation;
      const tried = outcome.acceptance === undefined ? '' : `; ${outcome.acceptance.reason}`;
      const before = from === undefined ? 'installed' : `instead of ${from}`;
      return [`${terminal.paint('good', 'in use')} ${name}@${to}, ${before}${tried}`];
    }
    case 'refused':
      return [
        `${terminal.paint('bad', 'refused')} ${name}@${outcome.version}: ${outcome.acceptance.reason}`,
        `  ${outcome.current === undefined ? 'no version is in use' : `${outcome.current} goes on`}; to try again: freehold update apply ${name}@${outcome.version}`,
      ];
    case 'unchanged':
      return [`${name}: ${unchangedText(outcome)}`];
    case 'failed':
      return failureLines(terminal, name, outcome.failure);
    default:
      return outcome satisfies never;
  }
}

function unchangedText({ name, offer }: Extract<ApplyOutcome, { kind: 'unchanged' }>): string {
  if (offer.kind === 'waiting') {
    const { version, rolloutPercent } = offer.release;
    return `${version} has reached ${rolloutPercent} % of all devices and not this one yet; --now does not wait`;
  }
  if (offer.kind === 'declined') {
    const { version } = offer.release;
    const why = offer.held === 'refused' ? 'its suite refused it' : 'it was rolled back';
    return `${version} is not taken again, since ${why} here; freehold update apply ${name}@${version} does`;
  }
  return offer.kind === 'nothing' ? 'its channel offers nothing' : 'up to date';
}

function registerRollback(update: Command, add: AddAction): void {
  add(
    update
      .command('rollback')
      .argument(
        '[model]',
        'NAME, or NAME@VERSION for any version in the store; none: the one that can be rolled back',
      )
      .description('put the version back that was in use before; needs no network'),
    async ({ freehold, terminal }, [model]) => {
      const { rollBack } = await import('../app/update-rollback.ts');
      const result = await rollBack(freehold, model);
      const { name, from, to, yankedBecause } = result;
      const yanked =
        yankedBecause === undefined
          ? []
          : [`${terminal.paint('bad', 'withdrawn')} ${name}@${to}: ${harmless(yankedBecause)}`];
      const text = `${terminal.paint('good', 'in use')} ${name}@${to}, instead of ${from}`;
      terminal.result(result, [text, ...yanked].join('\n'));
      return 0;
    },
  );
}
