import { Command, CommanderError } from 'commander';
import { FreeholdError, toFreeholdError } from '../../core/base/errors.ts';
import type { Freehold } from '../app/freehold.ts';
import { FREEHOLD_VERSION } from '../app/version.ts';
import { registerCommands } from './command-groups.ts';
import { byteCount } from './option-values.ts';
import { ProgressBar } from './progress-bar.ts';
import { harmless, Terminal, type TerminalStreams } from './terminal.ts';

/** Slower, and a request would outlive the patience of every registry. */
const RATE_BYTES_MIN = 1024;

/** Options that every command takes. */
interface GlobalOptions {
  readonly json?: boolean;
  readonly quiet?: boolean;
  readonly home?: string;
  readonly offline?: boolean;
  readonly mirrors?: string;
  readonly limitRate?: number;
}

/** What a command gets: its terminal, the opened home, and a signal that Ctrl-C or SIGTERM aborts. */
export interface CommandContext {
  readonly terminal: Terminal;
  readonly progress: ProgressBar;
  readonly freehold: Freehold;
  readonly signal: AbortSignal;
}

export type CommandAction<Options> = (
  context: CommandContext,
  args: readonly string[],
  options: Options,
) => Promise<number | undefined>;

/** Adds a verb to the program; its action opens the home first and returns an exit code (none: 0). */
export type AddAction = <Options extends object>(command: Command, action: CommandAction<Options>) => void;

/**
 * Runs one command line.
 * @param argv words after the program's name
 * @returns the process exit code; see docs/ERRORS.md
 */
export async function runCommandLine(argv: readonly string[], streams: TerminalStreams): Promise<number> {
  const abort = new AbortController();
  const stopListening = listenForSignals(abort);
  let exitCode = 0;
  try {
    const program = await createProgram(streams, abort.signal, argv, (code) => {
      exitCode = code;
    });
    await program.parseAsync([...argv], { from: 'user' });
    return exitCode;
  } catch (thrown) {
    return reportError(thrown, argv, streams, abort.signal);
  } finally {
    stopListening();
  }
}

/**
 * The command table: help, completion and dispatch all come from it.
 * @param argv decides which commands are needed: the table of one verb is read in a third of the time of all
 */
export async function createProgram(
  streams: TerminalStreams,
  signal: AbortSignal,
  argv: readonly string[],
  setExitCode: (code: number) => void,
): Promise<Command> {
  const program = new Command('freehold')
    .description(
      'Own the AI models you depend on: signed packages, verified before use, served from your own machine.',
    )
    .version(FREEHOLD_VERSION, '-V, --version')
    .option('--json', 'results as JSON on stdout (one document, or NDJSON events)')
    .option('--quiet', 'no progress and no remarks')
    .option(
      '--home <folder>',
      'where keys, trust and packages are kept (default: $FREEHOLD_HOME or ~/.freehold)',
    )
    .option('--offline', 'never use the network')
    .option('--mirrors <file>', 'a mirrors.yaml to use instead of the one in the home folder')
    .option('--limit-rate <size>', 'bytes per second to and from registries: 20MB', byteCount(RATE_BYTES_MIN))
    .configureHelp({ showGlobalOptions: false })
    .configureOutput({
      writeOut: (text) => streams.stdout.write(text),
      writeErr: () => {},
    })
    .exitOverride();
  const add: AddAction = <Options extends object>(command: Command, action: CommandAction<Options>) => {
    command.exitOverride();
    command.action(async (...received: unknown[]) => {
      const globals = command.optsWithGlobals<GlobalOptions>();
      const terminal = new Terminal(streams, { json: globals.json === true, quiet: globals.quiet === true });
      const progress = new ProgressBar(terminal, () => performance.now());
      // Imported here: a version, a help text or a wrong option need no home.
      const { openFreehold } = await import('../app/freehold.ts');
      const freehold = await openFreehold({
        env: streams.env,
        ...(globals.home === undefined ? {} : { home: globals.home }),
        ...(globals.mirrors === undefined ? {} : { mirrorsFile: globals.mirrors }),
        isOffline: globals.offline === true,
        rateBytesPerSecond: globals.limitRate,
        progress: progress.listen,
      });
      try {
        const args = received
          .slice(0, -2)
          .flat()
          .filter((arg) => typeof arg === 'string');
        setExitCode(
          (await action({ terminal, progress, freehold, signal }, args, command.opts<Options>())) ?? 0,
        );
      } finally {
        progress.clear();
      }
    });
  };
  await registerCommands(program, add, argv);
  return program;
}

/** First signal: stop in order. Second: at once. */
function listenForSignals(abort: AbortController): () => void {
  const onSignal = (name: NodeJS.Signals) => {
    if (abort.signal.aborted) process.exit(130);
    abort.abort(new FreeholdError('CANCELLED', `stopped by ${name}`));
  };
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(name, onSignal);
  return () => {
    for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.off(name, onSignal);
  };
}

/** Prints an error once, in one form: what, why, what to do; returns its exit code. */
function reportError(
  thrown: unknown,
  argv: readonly string[],
  streams: TerminalStreams,
  signal: AbortSignal,
): number {
  if (thrown instanceof CommanderError && thrown.exitCode === 0) return 0;
  const error =
    thrown instanceof CommanderError
      ? new FreeholdError('USAGE', usageMessage(thrown))
      : toFreeholdError(signal.aborted && !(thrown instanceof FreeholdError) ? signal.reason : thrown);
  const terminal = new Terminal(streams, { json: argv.includes('--json'), quiet: false });
  const cause = causeText(error);
  if (terminal.json) {
    terminal.event({
      error: {
        code: error.code,
        message: error.message,
        cause: cause ?? null,
        hint: error.hint,
        detail: error.detail,
      },
    });
    return error.exitCode;
  }
  const { stderr } = streams;
  stderr.write(`${terminal.paint('bad', 'error:', stderr)} ${harmless(error.message)} [${error.code}]\n`);
  if (cause !== undefined) stderr.write(`${terminal.paint('faint', 'cause:', stderr)} ${harmless(cause)}\n`);
  stderr.write(`${terminal.paint('faint', 'hint:', stderr)}  ${harmless(error.hint)}\n`);
  if (error.code === 'INTERNAL' && streams.env.FREEHOLD_DEBUG !== undefined && error.cause instanceof Error) {
    stderr.write(`${error.cause.stack ?? ''}\n`);
  }
  return error.exitCode;
}

function usageMessage(error: CommanderError): string {
  if (error.code === 'commander.help') return 'which command?';
  return error.message.replace(/^error: /, '').replaceAll('\n', ' ');
}

function causeText(error: FreeholdError): string | undefined {
  if (!(error.cause instanceof Error)) return undefined;
  return error.cause.message === error.message ? undefined : error.cause.message;
}
