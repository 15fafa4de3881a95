import type { Dispatcher } from 'undici';
import { request } from 'undici';

/** What became of one request. */
export type Outcome =
  /** `finish_reason` and `[DONE]` were seen, and the counts agree. */
  | { readonly kind: 'whole'; readonly tokens: number }
  /** A status from 500 on, or an error event, with a code. */
  | { readonly kind: 'refused'; readonly code: string }
  /** We hung up. */
  | { readonly kind: 'left' }
  /** Neither: what must never happen. */
  | { readonly kind: 'broken'; readonly reason: string };

export interface Question {
  readonly model: string;
  readonly words: string;
  readonly tokens: number;
  readonly isStreamed: boolean;
  /** Hangs up after the first text, or after a moment where the answer comes as a whole. */
  readonly leaves: boolean;
}

/** What clients may be told while engines die: anything else is a bug, or a refusal of a good request. */
const CODES_EXPECTED = new Set(['engine_lost', 'engine_failed', 'busy', 'out_of_memory', 'timeout']);
const LEAVE_MS = 200;
/** Random weights and small models end where they like; without end tokens an answer has its full length. */
const NO_END = { '0': -100, '1': -100, '2': -100 };

/** Asks once and judges the answer. Never throws. */
export async function ask(
  url: string,
  question: Question,
  dispatcher: Dispatcher,
  limitMs: number,
): Promise<Outcome> {
  const gone = new AbortController();
  const leaving =
    question.leaves && !question.isStreamed ? setTimeout(() => gone.abort(), LEAVE_MS) : undefined;
  const signal = AbortSignal.any([gone.signal, AbortSignal.timeout(limitMs)]);
  try {
    const { statusCode, body } = await request(`${url}/v1/chat/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(bodyOf(question)),
      dispatcher,
      signal,
      headersTimeout: limitMs,
      bodyTimeout: limitMs,
    });
    if (statusCode !== 200) return judgeRefusal(statusCode, await body.text());
    if (!question.isStreamed) return judgeAnswer(await body.text(), question);
    body.setEncoding('utf8');
    return await judgeStream(body as AsyncIterable<string>, question, () => gone.abort());
  } catch (error) {
    if (gone.signal.aborted) return { kind: 'left' };
    return { kind: 'broken', reason: `${question.model}: ${String(error)}` };
  } finally {
    clearTimeout(leaving);
  }
}

function bodyOf({ model, words, tokens, isStreamed }: Question): object {
  return {
    model,
    messages: [{ role: 'user', content: words }],
    max_tokens: tokens,
    temperature: 1,
    logit_bias: NO_END,
    ...(isStreamed ? { stream: true, stream_options: { include_usage: true } } : {}),
  };
}

function judgeRefusal(status: number, text: string): Outcome {
  try {
    return judgeError((JSON.parse(text) as { error: unknown }).error, `status ${status}`, status >= 500);
  } catch {
    return { kind: 'broken', reason: `status ${status} without an error in JSON: ${text.slice(0, 200)}` };
  }
}

function judgeError(error: unknown, where: string, isAllowed: boolean): Outcome {
  const { code, message } = error as { code?: unknown; message?: unknown };
  const isClear = typeof code === 'string' && typeof message === 'string' && message !== '';
  if (isClear && isAllowed && CODES_EXPECTED.has(code)) return { kind: 'refused', code };
  return { kind: 'broken', reason: `${where}: ${JSON.stringify(error)}` };
}

interface Completion {
  readonly choices: readonly [{ readonly finish_reason: string | null }?];
  readonly usage?: { readonly completion_tokens: number } | null;
  readonly error?: unknown;
}

function judgeAnswer(text: string, question: Question): Outcome {
  const { choices, usage } = JSON.parse(text) as Completion;
  return judgeEnd(choices[0]?.finish_reason ?? undefined, usage?.completion_tokens, question);
}

function judgeEnd(finish: string | undefined, tokens: number | undefined, question: Question): Outcome {
  if (finish === 'length' && tokens === question.tokens) return { kind: 'whole', tokens };
  const reason = `${question.model}: finish_reason ${finish} after ${tokens} of ${question.tokens} tokens`;
  return { kind: 'broken', reason };
}

async function judgeStream(
  parts: AsyncIterable<string>,
  question: Question,
  hangUp: () => void,
): Promise<Outcome> {
  let [finish, tokens, failure, isDone] = [
    undefined as string | undefined,
    undefined as number | undefined,
    undefined as Outcome | undefined,
    false,
  ];
  for await (const data of eventsOf(parts)) {
    // Whatever follows the end was never announced.
    if (isDone || failure !== undefined) return { kind: 'broken', reason: `an event after the end: ${data}` };
    if (data === '[DONE]') {
      isDone = true;
      continue;
    }
    const chunk = JSON.parse(data) as Completion;
    if (chunk.error !== undefined) {
      failure = judgeError(chunk.error, 'error event', true);
      continue;
    }
    finish = chunk.choices[0]?.finish_reason ?? finish;
    tokens = chunk.usage?.completion_tokens ?? tokens;
    if (question.leaves) {
      hangUp();
      return { kind: 'left' };
    }
  }
  if (failure !== undefined) return failure;
  if (!isDone)
    return { kind: 'broken', reason: `${question.model}: the stream ended without [DONE] or an error` };
  return judgeEnd(finish, tokens, question);
}

/** The data of server-sent events. */
async function* eventsOf(parts: AsyncIterable<string>): AsyncGenerator<string> {
  let rest = '';
  for await (const part of parts) {
    const lines = (rest + part).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) if (line.startsWith('data: ')) yield line.slice('data: '.length).trim();
  }
  if (rest.trim() !== '') throw new Error(`the stream ended within a line: ${rest.slice(0, 100)}`);
}
