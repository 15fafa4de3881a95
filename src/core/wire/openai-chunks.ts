import type { GeneratedToken, GenerateEvent, GenerateRequest, Usage } from '../base/engine-port.ts';
import type { AnswerRequest } from './openai-generation.ts';
import {
  type ChatLogprobs,
  type CompletionLogprobs,
  countCharacters,
  encodeChatLogprobs,
  encodeCompletionLogprobs,
} from './openai-logprobs.ts';
import {
  type AnswerEnvelope,
  type ChatToolCall,
  encodeFinishReason,
  encodeHead,
  type FinishReason,
  isCall,
  type TextCompletion,
} from './openai-response.ts';
import { encodeUsage, type OpenAiUsage } from './openai-usage.ts';

/** Makes the chunks of one streamed answer, whatever order its choices come in. */
export interface ChunkEncoder {
  /** Undefined where an event shows nothing to the client. */
  encode(event: GenerateEvent, index: number): object | undefined;
  /** The last chunk, without a choice. @param usages one for each choice, by its `index` */
  encodeUsage(usages: readonly Usage[]): object;
}

/** A call as it begins (everything, empty arguments) and as it goes on (arguments only). */
export type ToolCallDelta =
  | ({ readonly index: number } & ChatToolCall)
  | { readonly index: number; readonly function: { readonly arguments: string } };

interface ChatDelta {
  readonly role?: 'assistant';
  readonly content?: string | null;
  readonly refusal?: null;
  readonly tool_calls?: ToolCallDelta[];
}

export interface ChatChunk {
  readonly id: string;
  readonly object: 'chat.completion.chunk';
  readonly created: number;
  readonly model: string;
  readonly system_fingerprint: string;
  readonly choices: {
    readonly index: number;
    readonly delta: ChatDelta;
    readonly logprobs: ChatLogprobs | null;
    readonly finish_reason: FinishReason | null;
  }[];
  /** With `include_usage` on every chunk: null, except on the last one. */
  readonly usage?: OpenAiUsage | null;
}

/** Chunks of `/v1/chat/completions`. */
export class ChatChunkEncoder implements ChunkEncoder {
  readonly #envelope: AnswerEnvelope;
  readonly #request: AnswerRequest;

  constructor(envelope: AnswerEnvelope, request: AnswerRequest) {
    this.#envelope = envelope;
    this.#request = request;
  }

  encode(event: GenerateEvent, index: number): ChatChunk | undefined {
    const generation = generationOf(this.#request, index);
    const delta = this.#encodeDelta(event, generation);
    if (delta === undefined) return undefined;
    const tokens = tokensOf(event, generation);
    return {
      ...encodeHead(this.#envelope, 'chat.completion.chunk'),
      choices: [
        {
          index,
          delta,
          logprobs: tokens === undefined ? null : encodeChatLogprobs(tokens),
          finish_reason: finishOf(event, generation),
        },
      ],
      ...usagePlace(this.#request),
    };
  }

  encodeUsage(usages: readonly Usage[]): ChatChunk {
    const usage = encodeUsage(usages, this.#request.choicesPerPrompt);
    return { ...encodeHead(this.#envelope, 'chat.completion.chunk'), choices: [], usage };
  }

  #encodeDelta(event: GenerateEvent, generation: GenerateRequest): ChatDelta | undefined {
    switch (event.kind) {
      case 'started':
        return { role: 'assistant', content: isCall(generation) ? null : '', refusal: null };
      case 'text':
        return isEmpty(event, generation) ? undefined : { content: event.text };
      case 'tool-call':
        return { tool_calls: [this.#encodeCall(event.index, event.name)] };
      case 'tool-arguments':
        return { tool_calls: [{ index: event.index, function: { arguments: event.text } }] };
      case 'finished':
        return {};
    }
  }

  #encodeCall(index: number, name: string): ToolCallDelta {
    return { index, id: this.#envelope.createCallId(), type: 'function', function: { name, arguments: '' } };
  }
}

/** Chunks of `/v1/completions`: offsets of tokens go on from chunk to chunk. */
export class TextChunkEncoder implements ChunkEncoder {
  readonly #envelope: AnswerEnvelope;
  readonly #request: AnswerRequest;
  /** Code points of the tokens sent so far, for each choice. */
  readonly #characters = new Map<number, number>();

  constructor(envelope: AnswerEnvelope, request: AnswerRequest) {
    this.#envelope = envelope;
    this.#request = request;
  }

  encode(event: GenerateEvent, index: number): TextCompletion | undefined {
    const generation = generationOf(this.#request, index);
    if (event.kind !== 'finished' && (event.kind !== 'text' || isEmpty(event, generation))) return undefined;
    const tokens = tokensOf(event, generation);
    return {
      ...encodeHead(this.#envelope, 'text_completion'),
      choices: [
        {
          index,
          text: event.kind === 'text' ? event.text : '',
          logprobs: tokens === undefined ? null : this.#encodeTokens(tokens, index),
          finish_reason: finishOf(event, generation),
        },
      ],
      ...usagePlace(this.#request),
    };
  }

  encodeUsage(usages: readonly Usage[]): TextCompletion {
    const usage = encodeUsage(usages, this.#request.choicesPerPrompt);
    return { ...encodeHead(this.#envelope, 'text_completion'), choices: [], usage };
  }

  #encodeTokens(tokens: readonly GeneratedToken[], index: number): CompletionLogprobs {
    const before = this.#characters.get(index) ?? 0;
    const added = tokens.reduce((sum, token) => sum + countCharacters(token.bytes), 0);
    this.#characters.set(index, before + added);
    return encodeCompletionLogprobs(tokens, before);
  }
}

function generationOf({ generations }: AnswerRequest, index: number): GenerateRequest {
  const generation = generations[index];
  if (generation === undefined) throw new RangeError(`choice ${index} of ${generations.length}`);
  return generation;
}

/** Undefined unless log-probabilities were asked for. */
function tokensOf(
  event: GenerateEvent,
  { logprobs }: GenerateRequest,
): readonly GeneratedToken[] | undefined {
  return event.kind === 'text' && logprobs !== undefined ? event.tokens : undefined;
}

/** Tokens were held back, and there is nothing to show yet. */
function isEmpty(event: Extract<GenerateEvent, { kind: 'text' }>, { logprobs }: GenerateRequest): boolean {
  return event.text === '' && logprobs === undefined;
}

function finishOf(event: GenerateEvent, generation: GenerateRequest): FinishReason | null {
  return event.kind === 'finished' ? encodeFinishReason(event.reason, generation) : null;
}

function usagePlace({ includeUsage }: AnswerRequest): { usage?: null } {
  return includeUsage ? { usage: null } : {};
}
