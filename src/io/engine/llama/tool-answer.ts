import type { GenerateEvent } from '../../../core/base/engine-port.ts';
import { FreeholdError } from '../../../core/base/errors.ts';
import { ToolCallReader } from '../../../core/grammar/tool-call-reader.ts';

/**
 * The events of an answer that must be calls, made of the text that the grammar let through. Text events are left where
 * log-probabilities were asked for: without text, they carry the tokens. It finishes with `tool-calls` when all calls are
 * complete. One that was cut finishes with the reason of the cut, `length` or a stop string of the request: its last
 * call is not complete.
 * @throws ENGINE_FAILED when the text is no call: the grammar does not let that happen, the process may lie
 */
export async function* readToolAnswer(
  events: AsyncIterable<GenerateEvent>,
): AsyncGenerator<GenerateEvent, void, undefined> {
  const reader = new ToolCallReader();
  for await (const event of events) {
    switch (event.kind) {
      case 'text':
        if (event.tokens.length > 0) yield { ...event, text: '' };
        yield* reader.push(event.text);
        break;
      case 'finished':
        yield finished(event, reader.finish().isComplete);
        break;
      default:
        yield event;
    }
  }
}

type Finished = Extract<GenerateEvent, { kind: 'finished' }>;

function finished(event: Finished, isComplete: boolean): Finished {
  if (isComplete) return { ...event, reason: 'tool-calls' };
  if (event.reason === 'length' || event.stop !== undefined) return event;
  throw new FreeholdError('ENGINE_FAILED', 'the answer ended in the middle of a tool call');
}
