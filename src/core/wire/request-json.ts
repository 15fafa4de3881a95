import { FreeholdError } from '../base/errors.ts';
import { parseStrictJson } from '../base/strict-json.ts';

/** Bodies of every door nest less than ten levels; the bound keeps recursive readers safe. */
const DEPTH_MAX = 64;
/**
 * Opening brackets in one body, those in texts included. `{},` takes three bytes on the wire and fifty in memory: a
 * body of nothing else would grow sixteenfold. A text with as many fills no context.
 */
export const BRACKETS_MAX = 1 << 20;
/**
 * Names in one object of a body; the largest is `logit_bias`. Each costs microseconds and a kilobyte while it is
 * checked and complained about: a million of them held the server for ten seconds and 1.8 GB.
 */
export const NAMES_MAX = 8192;

const OPENING_BRACE = 0x7b;
const OPENING_BRACKET = 0x5b;

/**
 * Reads the body of a request under limits. Names must be unique in their object: of two, one would be dropped.
 * @throws REQUEST_INVALID with the place of the mistake
 */
export function parseRequestJson(bytes: Uint8Array, bytesMax: number): unknown {
  let brackets = 0;
  for (const byte of bytes) if (byte === OPENING_BRACE || byte === OPENING_BRACKET) brackets++;
  if (brackets > BRACKETS_MAX) {
    throw new FreeholdError('REQUEST_INVALID', `request body: ${brackets} brackets, at most ${BRACKETS_MAX}`);
  }
  try {
    return parseStrictJson(bytes, {
      label: 'request body',
      code: 'REQUEST_INVALID',
      bytesMax,
      depthMax: DEPTH_MAX,
      namesMax: NAMES_MAX,
    });
  } catch (error) {
    if (!(error instanceof FreeholdError)) throw error;
    // V8 says where; the text around it goes back to whoever sent it.
    const place = error.cause instanceof SyntaxError ? ` (${error.cause.message})` : '';
    throw new FreeholdError('REQUEST_INVALID', `${error.message}${place}`, {
      hint: 'send one JSON object in UTF-8, as RFC 8259 says',
    });
  }
}
