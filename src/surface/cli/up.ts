import { shortName } from '../../core/base/ids.ts';
import { STARTER_NAME } from '../app/catalog.ts';
import { fullReference } from '../app/installed-packages.ts';
import { createModelHost, type HostOptions } from '../app/model-host.ts';
import { streamAnswer, usageText } from './answer.ts';
import { installAsking } from './install-commands.ts';
import type { CommandContext } from './program.ts';
import { type ListenOptions, logTo, serveUntilStopped } from './serve.ts';

const QUESTION = 'Complete the proverb: A picture is worth';
/** Enough for the sentence; the first run should not look slow. */
const ANSWER_TOKENS_MAX = 80;
/** Of the line to paste: a haiku, and what a small model says about it. */
const CURL_TOKENS = 120;

/**
 * The first run: the starter model is fetched, checked, packaged, signed and installed through the ordinary path,
 * answers one question, and stays there behind the endpoint.
 */
export async function runUp(
  context: CommandContext,
  engine: HostOptions,
  options: ListenOptions,
): Promise<number> {
  const { terminal, freehold, signal, progress } = context;
  const installed = await installAsking(context, `catalog:${STARTER_NAME}`, {});
  progress.clear();
  const reference = fullReference(installed);
  terminal.note(
    `${terminal.paint('good', '✓', terminal.streams.stderr)} ${reference} is ${installed.isNew ? 'now ' : ''}installed, signature and digests verified`,
  );
  let isServing = false;
  const log = logTo(terminal);
  const host = createModelHost(freehold, {
    ...engine,
    pins: [reference],
    // What goes well is said in other words before.
    log: (record) => {
      if (isServing || record.level === 'warning' || record.level === 'error') log(record);
    },
  });
  try {
    const model = await host.use(reference, signal);
    terminal.note(
      `${terminal.paint('good', '✓', terminal.streams.stderr)} loaded, ${isolationText(model.info.isolation)}`,
    );
    terminal.note(`\n${terminal.paint('accent', '> ', terminal.streams.stderr)}${QUESTION}`);
    const answer = await streamAnswer(
      terminal,
      model,
      {
        prompt: { kind: 'chat', messages: [{ role: 'user', content: QUESTION }] },
        sampling: { temperature: 0 },
        maxTokens: ANSWER_TOKENS_MAX,
      },
      signal,
    );
    if (!terminal.json) terminal.streams.stdout.write('\n');
    if (answer.usage !== undefined)
      terminal.note(terminal.paint('faint', usageText(answer.usage), terminal.streams.stderr));
    if (answer.finish === 'cancelled') return 130;
    // It is loaded already: this only says so to whoever asks whether the server is ready.
    await host.start();
    return await serveUntilStopped(context, host, options, (url) => {
      isServing = true;
      const name = shortName(installed.name);
      terminal.result(
        { kind: 'serving', url: `${url}/v1`, model: name },
        `\nserving ${url}/v1 (OpenAI-compatible). Try it from another terminal:\n\n${curlLine(url, name)}\n\nCtrl-C stops.`,
      );
    });
  } finally {
    await host.close();
  }
}

/** The whole list is for `freehold doctor`; what is missing is for everybody. */
function isolationText(isolation: string): string {
  const isWhole = isolation.startsWith('sandbox:') && !isolation.includes('not protected');
  return isWhole ? 'in a sandbox without network and without access to your files' : isolation;
}

/** One line that can be pasted into any shell. */
export function curlLine(url: string, model: string): string {
  // Without an end to its tokens a small model may go on for minutes.
  const messages = [{ role: 'user', content: 'What is a haiku?' }];
  const body = JSON.stringify({ model, messages, max_tokens: CURL_TOKENS });
  return `curl ${url}/v1/chat/completions -H 'Content-Type: application/json' -d '${body}'`;
}
