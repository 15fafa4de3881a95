import { FreeholdError } from '../../../core/base/errors.ts';
import type { NativeModel } from './native-model.ts';
import { contextExceeded, requireKnownTokens } from './prompt-fit.ts';
import type { ChildMessage, EmbedMessage } from './protocol.ts';

/**
 * Embeds each input by itself, so that a vector does not depend on its neighbours.
 * @returns false when aborted
 * @throws CONTEXT_EXCEEDED naming the input, REQUEST_INVALID
 */
export async function runEmbedding(
  model: NativeModel,
  message: EmbedMessage,
  send: (message: ChildMessage) => Promise<void>,
): Promise<boolean> {
  const { id } = message;
  const inputs = message.inputs.map((input, index) => inputTokens(model, input, index));
  let promptTokens = 0;
  for (const tokens of inputs) {
    const vector = await model.context.embed(tokens);
    if (vector === undefined) return false;
    promptTokens += tokens.length;
    const { buffer, byteOffset, byteLength } = normalised(vector);
    await send({
      kind: 'vector',
      id,
      vector: Buffer.from(buffer, byteOffset, byteLength).toString('base64'),
    });
  }
  await send({ kind: 'embedded', id, promptTokens });
  return true;
}

function inputTokens(
  model: NativeModel,
  input: string | readonly number[],
  index: number,
): readonly number[] {
  const { vocabulary, facts } = model;
  const tokens = typeof input === 'string' ? vocabulary.tokenizeInput(input) : input;
  requireKnownTokens(tokens, vocabulary.tokenCount);
  if (tokens.length === 0) throw new FreeholdError('REQUEST_INVALID', `input ${index} is empty`);
  if (tokens.length > facts.contextTokens) {
    throw contextExceeded(`input ${index}`, tokens.length, facts.contextTokens);
  }
  return tokens;
}

/** Length 1, in double precision; a zero vector stays. */
function normalised(vector: Float32Array): Float32Array {
  let squares = 0;
  for (const value of vector) squares += value * value;
  if (!Number.isFinite(squares)) {
    throw new FreeholdError(
      'ENGINE_FAILED',
      'the model computed no number: its weights are damaged or overflow',
    );
  }
  const length = Math.sqrt(squares);
  return length === 0 ? vector : vector.map((value) => value / length);
}
