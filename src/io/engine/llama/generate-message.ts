import type {
  EmbedRequest,
  GenerateRequest,
  LoadRequest,
  ModelInfo,
  Prompt,
} from '../../../core/base/engine-port.ts';
import { FreeholdError } from '../../../core/base/errors.ts';
import { STOP_STRING_CHARACTERS_MAX, TOP_LOGPROBS_MAX } from '../../../core/base/request-limits.ts';
import { contextExceeded } from './prompt-fit.ts';
import { CONTEXT_TOKENS_MAX, EMBED_INPUTS_MAX, type GenerateMessage, MESSAGES_MAX } from './protocol.ts';
import { resolveSampling } from './sampling.ts';
import { STOP_STRINGS_MAX } from './stop-strings.ts';

/**
 * Checks a request and joins it with the package's defaults. Stop strings of the package always hold, since they end
 * the model's turn; those of the request come on top.
 * @param seed used when neither request nor package names one
 * @throws REQUEST_INVALID
 */
export function generateMessage(
  request: GenerateRequest,
  defaults: LoadRequest['defaults'],
  seed: number,
  contextTokens: number,
): Omit<GenerateMessage, 'id'> {
  const sampling = resolveSampling(request.sampling, defaults);
  return {
    kind: 'generate',
    prompt: requirePrompt(request.prompt),
    sampling: { ...sampling, logitBias: { ...sampling.logitBias }, seed },
    isReproducible: sampling.seed !== undefined || sampling.temperature === 0,
    ...(request.maxTokens === undefined
      ? {}
      : { maxTokens: requireMaxTokens(request.maxTokens, contextTokens) }),
    stop: requireStops([...(defaults?.stop ?? []), ...(request.stop ?? [])]),
    ...(request.logprobs === undefined ? {} : { topLogprobs: requireTop(request.logprobs.top) }),
  };
}

function requirePrompt(prompt: Prompt): GenerateMessage['prompt'] {
  switch (prompt.kind) {
    case 'text':
      return { kind: 'text', text: prompt.text };
    case 'tokens':
      requireTokens(prompt.tokens, 'prompt');
      return { kind: 'tokens', tokens: [...prompt.tokens] };
    case 'chat': {
      const { messages, continueLast = false } = prompt;
      if (messages.length === 0 || messages.length > MESSAGES_MAX) {
        throw invalid(`a chat has 1 to ${MESSAGES_MAX} messages, not ${messages.length}`);
      }
      if (continueLast && messages.at(-1)?.role !== 'assistant') {
        throw invalid('only a last message of the assistant can be continued');
      }
      return { kind: 'chat', messages: messages.map((message) => ({ ...message })), continueLast };
    }
  }
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
