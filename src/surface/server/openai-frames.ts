import type { GenerateEvent, GenerateRequest, Usage } from '../../core/base/engine-port.ts';
import {
  type AnswerEnvelope,
  encodeChatChunk,
  type StreamPart,
  TextChunkEncoder,
} from '../../core/wire/openai-response.ts';
import { encodeEvent } from './event-stream.ts';
import { verifyFinished } from './generation.ts';

/** Says that a stream is complete; a client that has not seen it has not seen everything. */
const DONE = 'data: [DONE]\n\n';
/** The work has begun and there is nothing to send yet. */
const NOTHING = '';

/** The events of one streamed chat answer. */
export async function* encodeChatFrames(
  envelope: AnswerEnvelope,
  events: AsyncIterable<GenerateEvent>,
  request: { readonly generate: GenerateRequest; readonly includeUsage: boolean },
): AsyncGenerator<string> {
  const encode = (part: StreamPart) => encodeEvent(encodeChatChunk(envelope, part, request.includeUsage));
  const usages: Usage[] = [];
  for await (const event of verifyFinished(events)) {
    if (event.kind === 'started') yield encode({ kind: 'begun' });
    const part = toPart(event, request.generate);
    if (part !== undefined) yield encode(part);
    if (event.kind === 'finished') usages.push(event.usage);
  }
  if (request.includeUsage) yield encode({ kind: 'usage', usages });
  yield DONE;
}

/** The events of one streamed plain completion: the prompts one after another, told apart by `index`. */
export async function* encodeTextFrames(
  envelope: AnswerEnvelope,
  generations: readonly GenerateRequest[],
  generate: (generation: GenerateRequest) => AsyncIterable<GenerateEvent>,
  { includeUsage }: { readonly includeUsage: boolean },
): AsyncGenerator<string> {
  const encoder = new TextChunkEncoder(envelope, includeUsage);
  const usages: Usage[] = [];
  for (const [index, generation] of generations.entries()) {
    for await (const event of verifyFinished(generate(generation))) {
      const part = toPart(event, generation);
      yield part === undefined ? NOTHING : encodeEvent(encoder.encode(part, index));
      if (event.kind === 'finished') usages.push(event.usage);
    }
  }
  if (includeUsage) yield encodeEvent(encoder.encode({ kind: 'usage', usages }, 0));
  yield DONE;
}

/** Undefined where an event shows nothing to the client. */
function toPart(
  event: GenerateEvent,
  request: GenerateRequest,
): Exclude<StreamPart, { kind: 'begun' | 'usage' }> | undefined {
  switch (event.kind) {
    case 'started':
      return undefined;
    case 'finished':
      return { kind: 'finished', reason: event.reason };
    case 'text': {
      if (request.logprobs !== undefined) return { kind: 'text', text: event.text, tokens: event.tokens };
      return event.text === '' ? undefined : { kind: 'text', text: event.text };
    }
  }
}
