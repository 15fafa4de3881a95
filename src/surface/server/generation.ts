import type { GenerateEvent, GenerateRequest, LoadedModel, Usage } from '../../core/base/engine-port.ts';
import { type Answer, AnswerBuilder, GenerationOrder } from '../../core/wire/answer.ts';
import type { ChunkEncoder } from '../../core/wire/openai-chunks.ts';
import type { AnswerRequest } from '../../core/wire/openai-generation.ts';
import { namingField } from '../../core/wire/openai-params.ts';
import { encodeEvent } from './event-stream.ts';
import { type IndexedItem, mergeStreams } from './merge-streams.ts';

/** Says that a stream is complete; a client that has not seen it has not seen everything. */
const DONE = 'data: [DONE]\n\n';
/** The work has begun and there is nothing to send yet. */
const NOTHING = '';

/** An event of the choice with this `index`. */
export type ChoiceEvent = IndexedItem<GenerateEvent>;

/**
 * Runs all generations of a request, as many at once as the model works on: more would only fill the queue in which
 * other requests wait. If one fails, the others are cancelled.
 * @throws what the first generation that fails has thrown, naming the field at fault; INTERNAL when the model breaks its
 * contract
 */
export function generateChoices(
  model: LoadedModel,
  { generations }: AnswerRequest,
  signal: AbortSignal,
): AsyncGenerator<ChoiceEvent> {
  return mergeStreams(
    generations.map((generation) => (either: AbortSignal) => verifiedEvents(model, generation, either)),
    { concurrentMax: model.info.parallelRequests, signal },
  );
}

async function* verifiedEvents(
  model: LoadedModel,
  generation: GenerateRequest,
  signal: AbortSignal,
): AsyncGenerator<GenerateEvent> {
  const order = new GenerationOrder(generation);
  try {
    for await (const event of model.generate(generation, signal)) {
      order.follow(event);
      yield event;
    }
  } catch (thrown) {
    throw namingField(thrown, generation);
  }
  order.requireEnd();
}

/** The whole answers, by their `index`. */
export async function collectAnswers(
  events: AsyncIterable<ChoiceEvent>,
  { generations }: AnswerRequest,
): Promise<Answer[]> {
  const builders = generations.map((generation) => new AnswerBuilder(generation));
  for await (const { index, item } of events) builders[index]?.add(item);
  return builders.map((builder) => builder.finish());
}

/**
 * The server-sent events of one streamed answer. `[DONE]` follows only if every choice has ended as it should: otherwise
 * `events` throws.
 */
export async function* encodeFrames(
  events: AsyncIterable<ChoiceEvent>,
  encoder: ChunkEncoder,
  { generations, includeUsage }: AnswerRequest,
): AsyncGenerator<string> {
  const usages = new Map<number, Usage>();
  for await (const { index, item } of events) {
    if (item.kind === 'finished') usages.set(index, item.usage);
    const chunk = encoder.encode(item, index);
    yield chunk === undefined ? NOTHING : encodeEvent(chunk);
  }
  if (includeUsage) {
    const all = generations.flatMap((_, index) => usages.get(index) ?? []);
    yield encodeEvent(encoder.encodeUsage(all));
  }
  yield DONE;
}
