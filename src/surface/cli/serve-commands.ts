import { existsSync } from 'node:fs';
import path from 'node:path';
import { text as readText } from 'node:stream/consumers';
import { type Command, Option } from 'commander';
import type { GenerateRequest, LoadedModel } from '../../core/base/engine-port.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import { PARALLEL_REQUESTS_MAX } from '../../core/base/request-limits.ts';
import { type AdapterOption, parseAdapterOption } from '../app/adapters.ts';
import { examineMachine } from '../app/doctor.ts';
import { readTextFile } from '../app/local-file.ts';
import { createModelHost, type HostOptions, type LocalModelHost } from '../app/model-host.ts';
import { chatPrompt, streamAnswer, usageText } from './answer.ts';
import { Chat } from './chat.ts';
import { collect, duration, integer, number } from './option-values.ts';
import type { AddAction, CommandContext } from './program.ts';
import { LISTEN_DEFAULT, type ListenOptions, logTo, serveUntilStopped } from './serve.ts';
import { harmless } from './terminal.ts';
import { runUp } from './up.ts';

interface EngineOptions {
  readonly verify?: 'full' | 'warm';
  readonly requireSandbox?: boolean;
  readonly threads?: number;
  readonly context?: number;
  /** GiB. */
  readonly memory?: number;
  readonly adapter?: AdapterOption[];
}

interface ServingOptions extends EngineOptions, ListenOptions {
  readonly parallel?: number;
  /** Milliseconds. */
  readonly keepAlive?: number;
  /** Seconds. */
  readonly queueTimeout?: number;
  readonly pin?: string[];
}

interface RunOptions extends EngineOptions {
  readonly system?: string;
  readonly file?: string[];
  readonly temperature?: number;
  readonly topP?: number;
  readonly maxTokens?: number;
  readonly seed?: number;
  readonly stop?: string[];
}

/** Models have contexts of at most a few million tokens; a prompt of more characters than this fits none. */
const INPUT_FILE_BYTES_MAX = 64 * 2 ** 20;
/** Smaller than any process that holds a model. */
const MEMORY_GIB_MIN = 0.01;
/** A pebibyte: more than one machine has. */
const MEMORY_GIB_MAX = 2 ** 20;

/** `up`, `run`, `serve`, `doctor`. */
export function registerServeCommands(program: Command, add: AddAction): void {
  add(
    withListenOptions(withServingOptions(withEngineOptions(program.command('up')))).description(
      'first run: fetch the starter model, check it, install it, ask it one question, serve it',
    ),
    (context, _args, options: ServingOptions) => runUp(context, servingOptions(options), options),
  );

  add(
    withAdapters(withEngineOptions(program.command('run')))
      .argument('<model>', 'NAME[@VERSION][#VARIANT], or NAME+ADAPTER')
      .argument('[prompt...]', 'the question; without it: stdin, or a chat on a terminal')
      .option('--system <text>', 'system message')
      .option('--file <path>', 'put the text of a file before the prompt (may be repeated)', collect)
      .option('--temperature <number>', '0 always takes the most likely token', number(0, 2))
      .option('--top-p <number>', 'nucleus sampling', number(0, 1))
      .option('--max-tokens <count>', 'length of the answer at most', integer(1, 2 ** 31))
      .option('--seed <number>', 'repeatable sampling', integer(0, 2 ** 32 - 1))
      .option('--stop <text>', 'end the answer before this text (may be repeated)', collect)
      .description('one answer, or a chat on a terminal'),
    runModel,
  );

  add(
    withListenOptions(withServingOptions(withAdapters(withEngineOptions(program.command('serve')))))
      .option('--pin <model>', 'load it at the start and never unload it (may be repeated)', collect)
      .description('serve every installed model behind one OpenAI-compatible endpoint'),
    async (context, _args, options: ServingOptions) => {
      const { listen, ...app } = await appOptions(context);
      const host = createModelHost(context.freehold, {
        ...servingOptions(options),
        ...app,
        log: logTo(context.terminal),
      });
      try {
        await host.start();
        return await serveUntilStopped(context, host, { ...listen, ...options }, (url) =>
          context.terminal.result(
            { kind: 'serving', url: `${url}/v1` },
            `serving ${url}/v1 (OpenAI-compatible); Ctrl-C stops`,
          ),
        );
      } finally {
        await host.close();
      }
    },
  );

  add(
    program.command('doctor').description('what this machine offers, and what is missing'),
    async (context) => {
      const findings = await examineMachine(context.freehold);
      const { terminal } = context;
      const mark = { ok: terminal.paint('good', 'ok  '), note: 'note', bad: terminal.paint('bad', 'bad ') };
      const lines = findings.flatMap((finding) => [
        `${mark[finding.state]}  ${finding.subject.padEnd(10)}  ${finding.text}`,
        ...(finding.hint === undefined ? [] : [`${' '.repeat(18)}${terminal.paint('faint', finding.hint)}`]),
      ]);
      terminal.result(findings, lines.join('\n'));
      return findings.some((finding) => finding.state === 'bad') ? 1 : 0;
    },
  );
}

function withEngineOptions(command: Command): Command {
  return command
    .addOption(
      new Option('--verify <how>', 'full: hash the weights at every load')
        .choices(['full', 'warm'])
        .default('warm'),
    )
    .option('--require-sandbox', 'refuse to run with less isolation than the sandbox floor')
    .option('--threads <count>', 'CPU threads per model (default: measured)', integer(1, 1024))
    .option(
      '--context <tokens>',
      "context of each request (default: the model's, at most 8192)",
      integer(16, 2 ** 24),
    )
    .option(
      '--memory <GiB>',
      'what all loaded models may need together (default: 70 % of what there is)',
      number(MEMORY_GIB_MIN, MEMORY_GIB_MAX),
    );
}

function withAdapters(command: Command): Command {
  return command.option(
    '--adapter <model+name=file>',
    'serve a LoRA adapter (GGUF) over a model, as MODEL+NAME (may be repeated)',
    (text: string, previous: AdapterOption[] | undefined) => [...(previous ?? []), parseAdapterOption(text)],
  );
}

function withServingOptions(command: Command): Command {
  return command
    .option(
      '--parallel <count>',
      'requests that one model works on at once (default: 4, or fewer where those do not fit)',
      integer(1, PARALLEL_REQUESTS_MAX),
    )
    .option(
      '--keep-alive <duration>',
      'how long an unused model stays loaded: 30s, 5m, 2h, 0, never (default: 5m)',
      duration,
    )
    .option(
      '--queue-timeout <seconds>',
      'how long a request may wait for its turn (default: 600)',
      number(0.1, 86_400),
    );
}

function withListenOptions(command: Command): Command {
  return command
    .option('--listen <address>', `loopback address and port (default: ${LISTEN_DEFAULT})`)
    .option('--allow-host <name>', 'a further Host header to answer to (may be repeated)', collect);
}

function servingOptions(options: ServingOptions): HostOptions {
  return {
    ...hostOptions(options),
    ...(options.parallel === undefined ? {} : { parallelRequests: options.parallel }),
    ...(options.keepAlive === undefined ? {} : { keepAliveMs: options.keepAlive }),
    ...(options.queueTimeout === undefined ? {} : { queueTimeoutMs: options.queueTimeout * 1000 }),
    ...(options.pin === undefined ? {} : { pins: options.pin }),
  };
}

function hostOptions(options: EngineOptions): HostOptions {
  return {
    verify: options.verify ?? 'warm',
    requireSandbox: options.requireSandbox === true,
    ...(options.threads === undefined ? {} : { threads: options.threads }),
    ...(options.context === undefined ? {} : { contextTokens: options.context }),
    ...(options.memory === undefined ? {} : { memoryBytes: Math.floor(options.memory * 2 ** 30) }),
    ...(options.adapter === undefined ? {} : { adapters: options.adapter }),
  };
}

/** What the application in this folder adds: the keys of its models as names, and where it wants the server. */
async function appOptions({
  terminal,
}: CommandContext): Promise<Pick<HostOptions, 'aliases'> & { listen?: ListenOptions }> {
  const folder = process.cwd();
  // Its YAML parser takes a tenth of a start, and most folders have none.
  if (!existsSync(path.join(folder, 'freehold.yaml'))) return {};
  const { openAppServing } = await import('../app/app-serving.ts');
  const { aliases, listen, remarks } = await openAppServing(folder, logTo(terminal));
  for (const remark of remarks) terminal.note(`note: ${harmless(remark)}`);
  return { aliases, ...(listen === undefined ? {} : { listen: { listen } }) };
}

async function runModel(
  context: CommandContext,
  [name = '', ...words]: readonly string[],
  options: RunOptions,
): Promise<number> {
  const { terminal, freehold, signal } = context;
  // One person asks one question after the other, and may think about the next one for as long as he likes.
  const { listen: _, ...app } = await appOptions(context);
  const host = createModelHost(freehold, {
    ...hostOptions(options),
    ...app,
    parallelRequests: 1,
    keepAliveMs: Number.POSITIVE_INFINITY,
  });
  try {
    const input = await readPrompt(context, words.join(' '), options.file ?? []);
    const model = await host.use(name, signal);
    if (input === undefined) {
      await new Chat(terminal, model, requestOf(options), options.system).run(signal);
      return 0;
    }
    return await answerOnce(context, model, options, input);
  } finally {
    await closeQuietly(host);
  }
}

async function answerOnce(
  { terminal, signal }: CommandContext,
  model: LoadedModel,
  options: RunOptions,
  input: string,
): Promise<number> {
  const prompt = chatPrompt(options.system, [{ role: 'user', content: input }]);
  const answer = await streamAnswer(terminal, model, { ...requestOf(options), prompt }, signal);
  if (terminal.json) {
    terminal.event({
      kind: 'finished',
      text: answer.text,
      finish: answer.finish,
      usage: answer.usage ?? null,
    });
  } else {
    terminal.streams.stdout.write('\n');
    if (answer.usage !== undefined) {
      terminal.note(terminal.paint('faint', usageText(answer.usage), terminal.streams.stderr));
    }
  }
  return answer.finish === 'cancelled' ? 130 : 0;
}

/** @returns undefined for a chat on a terminal */
async function readPrompt(
  { terminal, signal }: CommandContext,
  words: string,
  files: readonly string[],
): Promise<string | undefined> {
  const parts: string[] = [];
  for (const path of files) {
    parts.push(await readTextFile(path, { bytesMax: INPUT_FILE_BYTES_MAX, signal }));
  }
  if (words !== '') parts.push(words);
  else if (terminal.streams.stdin.isTTY !== true) parts.push((await readText(terminal.streams.stdin)).trim());
  else if (files.length === 0 && terminal.isInteractive) return undefined;
  const prompt = parts.filter((part) => part !== '').join('\n\n');
  if (prompt === '') {
    throw new FreeholdError('USAGE', 'there is no prompt', { hint: 'freehold run MODEL "your question"' });
  }
  return prompt;
}

function requestOf(options: RunOptions): Omit<GenerateRequest, 'prompt'> {
  return {
    sampling: {
      ...(options.temperature === undefined ? {} : { temperature: options.temperature }),
      ...(options.topP === undefined ? {} : { topP: options.topP }),
      ...(options.seed === undefined ? {} : { seed: options.seed }),
    },
    ...(options.maxTokens === undefined ? {} : { maxTokens: options.maxTokens }),
    ...(options.stop === undefined ? {} : { stop: options.stop }),
  };
}

async function closeQuietly(host: LocalModelHost): Promise<void> {
  await host.close().catch(() => {});
}
