import type { GeneratedToken, GenerateEvent } from '../../core/base/engine-port.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import type { Answer } from '../../core/wire/openai-response.ts';

type FinishedEvent = Extract<GenerateEvent, { kind: 'finished' }>;

/**
 * Passes the events on and makes sure of their end: a truncated answer is never delivered as a complete one.
 * @throws INTERNAL when the model breaks its contract
 */
export async function* verifyFinished(events: AsyncIterable<GenerateEvent>): AsyncGenerator<GenerateEvent> {
  let isFinished = false;
  for await (const event of events) {
    if (isFinished) throw new FreeholdError('INTERNAL', `the engine sent ${event.kind} after the end`);
    isFinished = event.kind === 'finished';
    yield event;
  }
  if (!isFinished)
    throw new FreeholdError('INTERNAL', 'the engine ended without saying that it has finished');
}

/** The whole answer at once. */
export async function collectAnswer(
  events: AsyncIterable<GenerateEvent>,
  wantsTokens: boolean,
): Promise<Answer> {
  const texts: string[] = [];
  const tokens: GeneratedToken[] = [];
  let finished: FinishedEvent | undefined;
  for await (const event of verifyFinished(events)) {
    if (event.kind === 'finished') finished = event;
    if (event.kind !== 'text') continue;
    texts.push(event.text);
    if (wantsTokens) tokens.push(...event.tokens);
  }
  if (finished === undefined) throw new FreeholdError('INTERNAL', 'no answer');
  const answer = { text: texts.join(''), reason: finished.reason, usage: finished.usage };
  return wantsTokens ? { ...answer, tokens } : answer;
}
