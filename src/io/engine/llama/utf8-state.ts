/**
 * UTF-8 as an automaton over bytes (Unicode 16, table 3-7): no overlong forms, no surrogates, nothing above U+10FFFF.
 * A state says what must follow; `CHARACTER_BORDER` is the only one in which a text may end.
 */
export const CHARACTER_BORDER = 0;
/** No continuation makes these bytes UTF-8. */
export const INVALID = -1;

/** By number of state: the range of the next byte, and the state behind it. */
const CONTINUATIONS: readonly (readonly [low: number, high: number, next: number])[] = [
  [1, 0, INVALID], // the border: looks at lead bytes instead
  [0x80, 0xbf, CHARACTER_BORDER],
  [0x80, 0xbf, 1],
  [0x80, 0xbf, 2],
  [0xa0, 0xbf, 1], // after E0
  [0x80, 0x9f, 1], // after ED
  [0x90, 0xbf, 2], // after F0
  [0x80, 0x8f, 2], // after F4
];

/** The state behind `bytes` that follow `state`. */
export function utf8After(bytes: Uint8Array, state: number): number {
  let current = state;
  for (let index = 0; index < bytes.length; index++) {
    const byte = bytes[index] as number;
    if (current === CHARACTER_BORDER) {
      current = behindLead(byte);
    } else {
      const [low, high, next] = CONTINUATIONS[current] as (typeof CONTINUATIONS)[number];
      current = byte >= low && byte <= high ? next : INVALID;
    }
    if (current === INVALID) return INVALID;
  }
  return current;
}

function behindLead(byte: number): number {
  if (byte < 0x80) return CHARACTER_BORDER;
  if (byte < 0xc2 || byte > 0xf4) return INVALID;
  if (byte < 0xe0) return 1;
  if (byte < 0xf0) return byte === 0xe0 ? 4 : byte === 0xed ? 5 : 2;
  return byte === 0xf0 ? 6 : byte === 0xf4 ? 7 : 3;
}
