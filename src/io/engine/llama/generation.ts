import { FreeholdError } from '../../../core/base/errors.ts';
import { AnswerText } from './answer-text.ts';
import type { ChatTemplate } from './chat-template.ts';
import type { NativeModel } from './native-model.ts';
import { contextExceeded, requireKnownTokens } from './prompt-fit.ts';
import type { PromptMemory } from './prompt-memory.ts';
import { tokenizeRendered, tokenizeText } from './prompt-tokens.ts';
import type { ChildMessage, GenerateMessage, WireToken } from './protocol.ts';
import { randomStream } from './random-stream.ts';
import { cutTopK, logSumExp, Sampler } from './sampler.ts';

/** What a generation needs of the process around it. */
export interface GenerationHost {
  readonly model: NativeModel;
  readonly memory: PromptMemory;
  /** @throws NOT_SUPPORTED, TEMPLATE_FAILED */
  template(): ChatTemplate;
  /** Resolves when there is room for more. */
  send(message: ChildMessage): Promise<void>;
  monotonicMs(): number;
}

/** As OpenAI's API writes a token that cannot come: JSON has no infinity. */
const LOGPROB_MIN = -9999;

/**
 * One generation: prompt, then token after token until an end token, a stop string, `maxTokens`, or the border of the
 * context.
 * @returns false when aborted
 * @throws CONTEXT_EXCEEDED, TEMPLATE_FAILED, NOT_SUPPORTED, REQUEST_INVALID, ENGINE_FAILED
 */
export async function runGeneration(host: GenerationHost, message: GenerateMessage): Promise<boolean> {
  const { id } = message;
  const prompt = await promptTokens(host, message);
  requireFit(host.model, prompt);
  await host.send({ kind: 'started', id, promptTokens: prompt.length });

  const begunMs = host.monotonicMs();
  const cachedTokens = await host.memory.read(prompt, message.isReproducible);
  if (cachedTokens === undefined) return false;
  const readMs = host.monotonicMs();
  const end = await answer(host, message, prompt);
  if (end === undefined) return false;
  await host.send({
    kind: 'finished',
    id,
    reason: end.reason,
    ...(end.stop === undefined ? {} : { stop: end.stop }),
    usage: {
      promptTokens: prompt.length,
      cachedTokens,
      completionTokens: end.completionTokens,
      promptMs: readMs - begunMs,
      completionMs: host.monotonicMs() - readMs,
    },
  });
  return true;
}

/** Says `rendered` before it tokenizes: the time that a long text takes is not the template's. */
async function promptTokens(host: GenerationHost, message: GenerateMessage): Promise<number[]> {
  const { id, prompt } = message;
  const { vocabulary } = host.model;
  if (prompt.kind === 'chat') {
    const chat = host.template().render(prompt.messages, prompt.continueLast);
    await host.send({ kind: 'rendered', id });
    requireTextFit(host.model, chat.text);
    return tokenizeRendered(vocabulary, chat.marks, chat.text);
  }
  await host.send({ kind: 'rendered', id });
  if (prompt.kind === 'text') {
    requireTextFit(host.model, prompt.text);
    return tokenizeText(vocabulary, prompt.text);
  }
  requireKnownTokens(prompt.tokens, vocabulary.tokenCount);
  return [...prompt.tokens];
}

/** Below so many units for each token of the context, tokenizing is quicker than looking for the longest token. */
const UNITS_PER_TOKEN_TYPICAL = 16;

/**
 * Refuses by its length alone what can never fit: 15 MB take a tokenizer ten seconds, and it hears of no cancellation.
 * @throws CONTEXT_EXCEEDED
 */
function requireTextFit(
  { facts, vocabulary }: Pick<NativeModel, 'facts' | 'vocabulary'>,
  text: string,
): void {
  const { contextTokens } = facts;
  if (text.length <= contextTokens * UNITS_PER_TOKEN_TYPICAL) return;
  const tokensMin = Math.ceil(text.length / vocabulary.longestTokenUnits());
  if (tokensMin > contextTokens) throw contextExceeded('prompt', tokensMin, contextTokens, true);
}

function requireFit(model: NativeModel, prompt: readonly number[]): void {
  if (prompt.length === 0) throw new FreeholdError('REQUEST_INVALID', 'the prompt is empty');
  const { contextTokens } = model.facts;
  if (prompt.length + 1 > contextTokens) throw contextExceeded('prompt', prompt.length, contextTokens);
}

interface AnswerEnd {
  readonly reason: 'stop' | 'length';
  readonly stop?: string;
  readonly completionTokens: number;
}

async function answer(
  host: GenerationHost,
  message: GenerateMessage,
  prompt: readonly number[],
): Promise<AnswerEnd | undefined> {
  const { context, vocabulary, facts } = host.model;
  const sampler = new Sampler(message.sampling, randomStream(message.sampling.seed), prompt);
  const text = new AnswerText<WireToken | undefined>(message.stop);
  const tokensMax = Math.min(
    message.maxTokens ?? Number.POSITIVE_INFINITY,
    facts.contextTokens - prompt.length,
  );
  for (let count = 0; count < tokensMax; ) {
    const logits = context.logits(facts.vocabularyTokens);
    const token = sampler.choose(logits);
    count++;
    requireNumber(logits, token);
    if (vocabulary.isEndOfGeneration(token)) {
      const rest = text.finish();
      await sendText(host, message.id, rest);
      return {
        reason: 'stop',
        completionTokens: count,
        ...(rest.stop === undefined ? {} : { stop: rest.stop }),
      };
    }
    const wireToken =
      message.topLogprobs === undefined ? undefined : describe(host, logits, token, message.topLogprobs);
    const piece = text.push(vocabulary.visibleBytes(token), wireToken);
    await sendText(host, message.id, piece);
    if (piece.stop !== undefined) return { reason: 'stop', stop: piece.stop, completionTokens: count };
    // The last token need not be evaluated: nothing comes after it.
    if (count < tokensMax && !(await host.memory.append(token))) return undefined;
  }
  const rest = text.finish();
  await sendText(host, message.id, rest);
  const completionTokens = Math.max(0, tokensMax);
  if (rest.stop !== undefined) return { reason: 'stop', stop: rest.stop, completionTokens };
  return { reason: 'length', completionTokens };
}

async function sendText(
  host: GenerationHost,
  id: number,
  piece: { readonly text: string; readonly tokens: readonly (WireToken | undefined)[] },
): Promise<void> {
  const tokens = piece.tokens.filter((token) => token !== undefined);
  if (piece.text !== '' || tokens.length > 0) await host.send({ kind: 'text', id, text: piece.text, tokens });
}

/** Broken weights compute NaN; every token would be the first one. */
function requireNumber(logits: Float32Array, token: number): void {
  if (!Number.isFinite(logits[token])) {
    throw new FreeholdError(
      'ENGINE_FAILED',
      'the model computed no number: its weights are damaged or overflow',
    );
  }
}

function describe(host: GenerationHost, logits: Float32Array, token: number, top: number): WireToken {
  const normaliser = logSumExp(logits);
  const { vocabulary } = host.model;
  const entry = (id: number, logit: number) => ({
    id,
    bytes: Buffer.from(vocabulary.spelledBytes(id)).toString('base64'),
    // Rounding can leave a certain token a hair above 0.
    logprob: Math.min(0, Math.max(LOGPROB_MIN, logit - normaliser)),
  });
  const best = top === 0 ? { ids: [], logits: [] } : cutTopK(logits, top);
  return {
    ...entry(token, logits[token] as number),
    top: Array.from(best.ids, (id, index) => entry(id, best.logits[index] as number)),
  };
}
