import type { GgufArray } from './gguf-array.ts';
import type { GgufFile } from './gguf-types.ts';
import { ggufInvalid } from './gguf-values.ts';

/** Two of 262,144 tokens have one key by chance in 4 of a million files; more are made to. */
const COLLISIONS_MAX = 64;

/**
 * Refuses two tokens that are one to native code: llama.cpp ends the process (`GGML_ASSERT` in `llama_vocab::impl::load`)
 * when its map from text to id has fewer entries than there are tokens. It reads C strings, so a text ends at its
 * first NUL; an empty one is given a name by its index.
 *
 * Works on 8 bytes a token instead of a set of all texts, and refuses texts that are chosen to collide.
 * @param key of the array, for messages
 * @throws GGUF_INVALID naming the token
 */
export function verifyDistinctTexts(file: GgufFile, key: string, texts: GgufArray): void {
  const keys = new Float64Array(texts.length);
  let index = 0;
  for (const text of texts.strings()) keys[index] = keyOf(cString(text), index++);
  const collided = repeated(keys.toSorted());
  if (collided.size === 0) return;
  const seen = new Set<string>();
  index = 0;
  for (const text of texts.strings()) {
    const isSuspect = collided.has(keys[index] ?? 0);
    index++;
    if (!isSuspect) continue;
    const shown = Buffer.from(cString(text)).toString('latin1');
    if (seen.has(shown) || seen.size > COLLISIONS_MAX) {
      throw ggufInvalid(
        file,
        key,
        `has the token ${index - 1} a second time: ${JSON.stringify(shown.slice(0, 40))}`,
      );
    }
    seen.add(shown);
  }
}

function cString(text: Uint8Array): Uint8Array {
  const end = text.indexOf(0);
  return end < 0 ? text : text.subarray(0, end);
}

/** 53 bits of two multiplicative hashes: equal for equal texts, else almost never. */
function keyOf(text: Uint8Array, index: number): number {
  if (text.byteLength === 0) return -index - 1;
  let low = 0x811c_9dc5;
  let high = 0x1234_5678;
  for (const byte of text) {
    low = Math.imul(low ^ byte, 0x0100_0193);
    high = Math.imul(high + byte + 1, 0x85eb_ca6b);
    high ^= high >>> 15;
  }
  return (low >>> 0) * 2 ** 21 + (high >>> 11);
}

function repeated(sorted: Float64Array): Set<number> {
  const found = new Set<number>();
  for (let index = 1; index < sorted.length && found.size <= COLLISIONS_MAX; index++) {
    if (sorted[index] === sorted[index - 1]) found.add(sorted[index] ?? 0);
  }
  return found;
}
