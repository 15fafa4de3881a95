import type { GeneratedToken, ModelSummary, Usage } from '../base/engine-port.ts';
import {
  type ChatLogprobs,
  type CompletionLogprobs,
  countCharacters,
  encodeChatLogprobs,
  encodeCompletionLogprobs,
} from './openai-logprobs.ts';

/** What all chunks of one answer share. */
export interface AnswerEnvelope {
  /** `chatcmpl-…` or `cmpl-…`. */
  readonly id: string;
  /** Unix seconds. */
  readonly createdSeconds: number;
  /** As the client wrote it. */
  readonly model: string;
  /** Changes when another program version or another kind of model answers under this name. */
  readonly fingerprint: string;
}

export type FinishReason = 'stop' | 'length';

/** One finished generation. */
export interface Answer {
  readonly text: string;
  /** Absent unless log-probabilities were asked for. */
  readonly tokens?: readonly GeneratedToken[];
  readonly reason: FinishReason;
  readonly usage: Usage;
}

export interface OpenAiUsage {
  readonly prompt_tokens: number;
  readonly completion_tokens: number;
  readonly total_tokens: number;
  readonly prompt_tokens_details: { readonly cached_tokens: number };
}

/** The sum over all choices of one request. */
export function encodeUsage(parts: readonly Usage[]): OpenAiUsage {
  const sum = (count: (usage: Usage) => number) => parts.reduce((total, usage) => total + count(usage), 0);
  const prompt = sum((usage) => usage.promptTokens);
  const completion = sum((usage) => usage.completionTokens);
  return {
    prompt_tokens: prompt,
    completion_tokens: completion,
    total_tokens: prompt + completion,
    prompt_tokens_details: { cached_tokens: sum((usage) => usage.cachedTokens) },
  };
}

interface Head<Kind extends string> {
  readonly id: string;
  readonly object: Kind;
  readonly created: number;
  readonly model: string;
  readonly system_fingerprint: string;
}

function encodeHead<Kind extends string>(envelope: AnswerEnvelope, object: Kind): Head<Kind> {
  return {
    id: envelope.id,
    object,
    created: envelope.createdSeconds,
    model: envelope.model,
    system_fingerprint: envelope.fingerprint,
  };
}

export interface ChatCompletion extends Head<'chat.completion'> {
  readonly choices: {
    readonly index: number;
    readonly message: { readonly role: 'assistant'; readonly content: string; readonly refusal: null };
    readonly logprobs: ChatLogprobs | null;
    readonly finish_reason: FinishReason;
  }[];
  readonly usage: OpenAiUsage;
}

/** The whole body of an answer that is not streamed. */
export function encodeChatCompletion(envelope: AnswerEnvelope, answer: Answer): ChatCompletion {
  return {
    ...encodeHead(envelope, 'chat.completion'),
    choices: [
      {
        index: 0,
        message: { role: 'assistant', content: answer.text, refusal: null },
        logprobs: answer.tokens === undefined ? null : encodeChatLogprobs(answer.tokens),
        finish_reason: answer.reason,
      },
    ],
    usage: encodeUsage([answer.usage]),
  };
}

/** One step of a streamed answer. */
export type StreamPart =
  | { readonly kind: 'begun' }
  | { readonly kind: 'text'; readonly text: string; readonly tokens?: readonly GeneratedToken[] }
  | { readonly kind: 'finished'; readonly reason: FinishReason }
  | { readonly kind: 'usage'; readonly usages: readonly Usage[] };

export interface ChatChunk extends Head<'chat.completion.chunk'> {
  readonly choices: {
    readonly index: number;
    readonly delta: { role?: 'assistant'; content?: string; refusal?: null };
    readonly logprobs: ChatLogprobs | null;
    readonly finish_reason: FinishReason | null;
  }[];
  readonly usage?: OpenAiUsage | null;
}

/**
 * One chunk of a streamed chat answer.
 * @param includeUsage every chunk has `usage` then: null, except in the last one, which has no choice
 */
export function encodeChatChunk(
  envelope: AnswerEnvelope,
  part: StreamPart,
  includeUsage: boolean,
): ChatChunk {
  const head = encodeHead(envelope, 'chat.completion.chunk');
  if (part.kind === 'usage') return { ...head, choices: [], usage: encodeUsage(part.usages) };
  const logprobs = part.kind === 'text' && part.tokens !== undefined ? encodeChatLogprobs(part.tokens) : null;
  return {
    ...head,
    choices: [
      {
        index: 0,
        delta: chatDelta(part),
        logprobs,
        finish_reason: part.kind === 'finished' ? part.reason : null,
      },
    ],
    ...(includeUsage ? { usage: null } : {}),
  };
}

function chatDelta(part: Exclude<StreamPart, { kind: 'usage' }>): ChatChunk['choices'][number]['delta'] {
  switch (part.kind) {
    case 'begun':
      return { role: 'assistant', content: '', refusal: null };
    case 'text':
      return { content: part.text };
    case 'finished':
      return {};
  }
}

export interface TextCompletion extends Head<'text_completion'> {
  readonly choices: {
    readonly index: number;
    readonly text: string;
    readonly logprobs: CompletionLogprobs | null;
    readonly finish_reason: FinishReason | null;
  }[];
  readonly usage?: OpenAiUsage | null;
}

/** The whole body of `/v1/completions`; one choice for each prompt. */
export function encodeTextCompletion(envelope: AnswerEnvelope, answers: readonly Answer[]): TextCompletion {
  return {
    ...encodeHead(envelope, 'text_completion'),
    choices: answers.map((answer, index) => ({
      index,
      text: answer.text,
      logprobs: answer.tokens === undefined ? null : encodeCompletionLogprobs(answer.tokens),
      finish_reason: answer.reason,
    })),
    usage: encodeUsage(answers.map((answer) => answer.usage)),
  };
}

/** Encodes the chunks of one streamed `/v1/completions`: offsets of tokens go on from chunk to chunk. */
export class TextChunkEncoder {
  readonly #envelope: AnswerEnvelope;
  readonly #includeUsage: boolean;
  /** Code points of the tokens sent so far, for each choice. */
  readonly #characters = new Map<number, number>();

  constructor(envelope: AnswerEnvelope, includeUsage: boolean) {
    this.#envelope = envelope;
    this.#includeUsage = includeUsage;
  }

  /** @param index the choice that the part belongs to */
  encode(part: Exclude<StreamPart, { kind: 'begun' }>, index: number): TextCompletion {
    const head = encodeHead(this.#envelope, 'text_completion');
    if (part.kind === 'usage') return { ...head, choices: [], usage: encodeUsage(part.usages) };
    return {
      ...head,
      choices: [
        {
          index,
          text: part.kind === 'text' ? part.text : '',
          logprobs: part.kind === 'text' && part.tokens ? this.#encodeTokens(part.tokens, index) : null,
          finish_reason: part.kind === 'finished' ? part.reason : null,
        },
      ],
      ...(this.#includeUsage ? { usage: null } : {}),
    };
  }

  #encodeTokens(tokens: readonly GeneratedToken[], index: number): CompletionLogprobs {
    const before = this.#characters.get(index) ?? 0;
    const added = tokens.reduce((sum, token) => sum + countCharacters(token.bytes), 0);
    this.#characters.set(index, before + added);
    return encodeCompletionLogprobs(tokens, before);
  }
}

export interface OpenAiModel {
  readonly id: string;
  readonly object: 'model';
  readonly created: number;
  readonly owned_by: string;
}

export function encodeModel(summary: ModelSummary): OpenAiModel {
  return { id: summary.id, object: 'model', created: summary.createdSeconds, owned_by: summary.owner };
}

export function encodeModelList(summaries: readonly ModelSummary[]): {
  readonly object: 'list';
  readonly data: OpenAiModel[];
} {
  return { object: 'list', data: summaries.map(encodeModel) };
}
