import type {
  EmbedRequest,
  GenerateRequest,
  LoadRequest,
  ModelInfo,
} from '../../../core/base/engine-port.ts';
import { FreeholdError } from '../../../core/base/errors.ts';
import { STOP_STRING_CHARACTERS_MAX, TOP_LOGPROBS_MAX } from '../../../core/base/request-limits.ts';
import { requireChat } from './chat-prompt.ts';
import type { GrammarCache } from './grammar-cache.ts';
import { contextExceeded } from './prompt-fit.ts';
import { CONTEXT_TOKENS_MAX, EMBED_INPUTS_MAX, type GenerateMessage } from './protocol.ts';
import { resolveSampling } from './sampling.ts';
import { STOP_STRINGS_MAX } from './stop-strings.ts';

/** What a request is checked against and completed with. */
export interface GenerateContext {
  /** The package's own. */
  readonly defaults: LoadRequest['defaults'];
  /** Used when neither request nor package names one. */
  readonly seed: number;
  readonly contextTokens: number;
  /** Names of the adapters, in the order of the load message. */
  readonly adapters: readonly string[];
  readonly grammars: GrammarCache;
}

/**
 * Checks a request and joins it with the package's defaults. Stop strings of the package hold besides those of the
 * request, since they end the model's turn; but not where the answer has a form, which ends by itself: there they could
 * only cut it inside a string.
 * @throws REQUEST_INVALID, SCHEMA_NOT_SUPPORTED, GRAMMAR_INVALID
 */
export function generateMessage(
  request: GenerateRequest,
  { defaults, seed, contextTokens, adapters, grammars }: GenerateContext,
): Omit<GenerateMessage, 'id'> {
  const sampling = resolveSampling(request.sampling, defaults);
  const prompt = requirePrompt(request);
  const grammar = requireForm(request, grammars);
  const packageStops = grammar === undefined ? (defaults?.stop ?? []) : [];
  return {
    kind: 'generate',
    prompt,
    sampling: { ...sampling, logitBias: { ...sampling.logitBias }, seed: sampling.seed ?? seed },
    isReproducible: sampling.seed !== undefined || sampling.temperature === 0,
    ...(request.maxTokens === undefined
      ? {}
      : { maxTokens: requireMaxTokens(request.maxTokens, contextTokens) }),
    stop: requireStops([...packageStops, ...(request.stop ?? [])]),
    ...(request.logprobs === undefined ? {} : { topLogprobs: requireTop(request.logprobs.top) }),
    ...(grammar === undefined ? {} : { grammar }),
    ...(request.adapter === undefined ? {} : { adapter: requireAdapter(request.adapter, adapters) }),
  };
}

/** Whether the answer must be calls: it reads as `readToolAnswer` makes events of it. */
export function mustCall({ tools }: Pick<GenerateRequest, 'tools'>): boolean {
  return tools !== undefined && tools.choice.kind !== 'none';
}

function requirePrompt({ prompt, tools }: GenerateRequest): GenerateMessage['prompt'] {
  if (prompt.kind !== 'chat' && tools !== undefined) throw invalid('tools need a chat, not a plain prompt');
  switch (prompt.kind) {
    case 'text':
      return { kind: 'text', text: prompt.text };
    case 'tokens':
      requireTokens(prompt.tokens, 'prompt');
      return { kind: 'tokens', tokens: [...prompt.tokens] };
    case 'chat':
      return requireChat(prompt, tools);
  }
}

/** The grammar of an answer that must have a form. */
function requireForm({ constraint, tools }: GenerateRequest, grammars: GrammarCache): string | undefined {
  if (tools === undefined || !mustCall({ tools })) {
    return constraint === undefined ? undefined : grammars.ofConstraint(constraint);
  }
  if (constraint === undefined) return grammars.ofTools(tools);
  throw invalid('an answer that must be a call cannot have another form as well');
}

function requireAdapter(name: string, adapters: readonly string[]): number {
  const index = adapters.indexOf(name);
  if (index >= 0) return index;
  const known = adapters.length === 0 ? 'the model has none' : `the model has ${adapters.join(', ')}`;
  throw invalid(`no adapter ${JSON.stringify(name.slice(0, 80))}: ${known}`);
}

function requireMaxTokens(maxTokens: number, contextTokens: number): number {
  if (!Number.isInteger(maxTokens) || maxTokens < 0) throw invalid(`maxTokens is ${maxTokens}`);
  return Math.min(maxTokens, contextTokens);
}

function requireStops(stops: readonly string[]): string[] {
  const distinct = [...new Set(stops)];
  if (distinct.length > STOP_STRINGS_MAX) {
    throw invalid(`${distinct.length} stop strings, at most ${STOP_STRINGS_MAX} are allowed`);
  }
  for (const stop of distinct) {
    // Half a surrogate pair can never be part of a text.
    if (stop === '' || stop.length > STOP_STRING_CHARACTERS_MAX || !stop.isWellFormed()) {
      throw invalid(`a stop string has 1 to ${STOP_STRING_CHARACTERS_MAX} characters, not ${stop.length}`);
    }
  }
  return distinct;
}

function requireTop(top: number): number {
  if (!Number.isInteger(top) || top < 0 || top > TOP_LOGPROBS_MAX) {
    throw invalid(`logprobs.top is ${top}, it must be from 0 to ${TOP_LOGPROBS_MAX}`);
  }
  return top;
}

/** @throws REQUEST_INVALID */
export function requireEmbedRequest(
  request: EmbedRequest,
  info: Pick<ModelInfo, 'contextTokens'>,
): (string | number[])[] {
  if (request.inputs.length > EMBED_INPUTS_MAX) {
    throw invalid(`${request.inputs.length} inputs, at most ${EMBED_INPUTS_MAX} are allowed`);
  }
  return request.inputs.map((input, index) => {
    if (typeof input === 'string') return input;
    requireTokens(input, `input ${index}`);
    if (input.length > info.contextTokens) {
      throw contextExceeded(`input ${index}`, input.length, info.contextTokens);
    }
    return [...input];
  });
}

function requireTokens(tokens: readonly number[], what: string): void {
  if (tokens.length > CONTEXT_TOKENS_MAX) throw invalid(`${what} has ${tokens.length} tokens`);
  const wrong = tokens.find((token) => !Number.isInteger(token) || token < 0);
  if (wrong !== undefined) throw invalid(`${what} has a token ${wrong}, tokens are whole numbers from 0`);
}

function invalid(message: string): FreeholdError {
  return new FreeholdError('REQUEST_INVALID', message);
}
