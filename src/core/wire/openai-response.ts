import type { GenerateEvent, GenerateRequest, ModelSummary } from '../base/engine-port.ts';
import type { Answer } from './answer.ts';
import type { AnswerRequest } from './openai-generation.ts';
import {
  type ChatLogprobs,
  type CompletionLogprobs,
  encodeChatLogprobs,
  encodeCompletionLogprobs,
} from './openai-logprobs.ts';
import { encodeUsage, type OpenAiUsage } from './openai-usage.ts';

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
  /** A new `call_…` for each call of a tool. */
  readonly createCallId: () => string;
}

export type FinishReason = 'stop' | 'length' | 'tool_calls';

/**
 * OpenAI says `tool_calls` where the model chose among tools, and `stop` where one was asked for by its name; clients
 * that go on while it says `tool_calls` would otherwise call that one for ever.
 */
export function encodeFinishReason(
  reason: Extract<GenerateEvent, { kind: 'finished' }>['reason'],
  { tools }: GenerateRequest,
): FinishReason {
  if (reason !== 'tool-calls') return reason;
  return tools?.choice.kind === 'named' ? 'stop' : 'tool_calls';
}

/** Whether the answer must be a call, which has no content. */
export function isCall({ tools }: GenerateRequest): boolean {
  return tools !== undefined && tools.choice.kind !== 'none';
}

interface Head<Kind extends string> {
  readonly id: string;
  readonly object: Kind;
  readonly created: number;
  readonly model: string;
  readonly system_fingerprint: string;
}

export function encodeHead<Kind extends string>(envelope: AnswerEnvelope, object: Kind): Head<Kind> {
  return {
    id: envelope.id,
    object,
    created: envelope.createdSeconds,
    model: envelope.model,
    system_fingerprint: envelope.fingerprint,
  };
}

export interface ChatToolCall {
  readonly id: string;
  readonly type: 'function';
  readonly function: { readonly name: string; readonly arguments: string };
}

export interface ChatCompletion extends Head<'chat.completion'> {
  readonly choices: {
    readonly index: number;
    readonly message: {
      readonly role: 'assistant';
      readonly content: string | null;
      readonly refusal: null;
      readonly tool_calls?: ChatToolCall[];
    };
    readonly logprobs: ChatLogprobs | null;
    readonly finish_reason: FinishReason;
  }[];
  readonly usage: OpenAiUsage;
}

/** The whole body of an answer that is not streamed. */
export function encodeChatCompletion(
  envelope: AnswerEnvelope,
  request: AnswerRequest,
  answers: readonly Answer[],
): ChatCompletion {
  return {
    ...encodeHead(envelope, 'chat.completion'),
    choices: choicesOf(request, answers, (answer, generation, index) => ({
      index,
      message: {
        role: 'assistant',
        content: answer.text === '' && isCall(generation) ? null : answer.text,
        refusal: null,
        ...(answer.calls.length === 0 ? {} : { tool_calls: encodeCalls(envelope, answer) }),
      },
      logprobs: answer.tokens === undefined ? null : encodeChatLogprobs(answer.tokens),
      finish_reason: encodeFinishReason(answer.reason, generation),
    })),
    usage: encodeUsageOf(request, answers),
  };
}

function encodeCalls({ createCallId }: AnswerEnvelope, { calls }: Answer): ChatToolCall[] {
  return calls.map((call) => ({ id: createCallId(), type: 'function', function: { ...call } }));
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

/** The whole body of `/v1/completions`: the choices of the first prompt, then those of the second. */
export function encodeTextCompletion(
  envelope: AnswerEnvelope,
  request: AnswerRequest,
  answers: readonly Answer[],
): TextCompletion {
  return {
    ...encodeHead(envelope, 'text_completion'),
    choices: choicesOf(request, answers, (answer, generation, index) => ({
      index,
      text: answer.text,
      logprobs: answer.tokens === undefined ? null : encodeCompletionLogprobs(answer.tokens),
      finish_reason: encodeFinishReason(answer.reason, generation),
    })),
    usage: encodeUsageOf(request, answers),
  };
}

function choicesOf<Choice>(
  { generations }: AnswerRequest,
  answers: readonly Answer[],
  encode: (answer: Answer, generation: GenerateRequest, index: number) => Choice,
): Choice[] {
  return generations.flatMap((generation, index) => {
    const answer = answers[index];
    return answer === undefined ? [] : [encode(answer, generation, index)];
  });
}

function encodeUsageOf({ choicesPerPrompt }: AnswerRequest, answers: readonly Answer[]): OpenAiUsage {
  return encodeUsage(
    answers.map((answer) => answer.usage),
    choicesPerPrompt,
  );
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
