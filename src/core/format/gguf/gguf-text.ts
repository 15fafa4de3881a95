import { quoted } from '../../base/ids.ts';
import type { GgufCursor } from './gguf-cursor.ts';
import { TEXT_BYTES_MAX } from './gguf-limits.ts';

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** What all strings of one file may take together. */
export interface TextBudget {
  bytesLeft: number;
}

/** A key or tensor name: printable ASCII, so that it is the same string to C, to us and on a terminal. */
export async function readIdentifier(
  cursor: GgufCursor,
  what: string,
  bytesMax: number,
  budget: TextBudget,
): Promise<string> {
  const offset = cursor.position;
  await cursor.require(8, `the length of ${what}`);
  const length = cursor.size(`the length of ${what}`);
  // ggml asserts on an empty key (llama.cpp pull request 24263).
  if (length === 0) throw cursor.invalid(`${what} is empty`, offset);
  if (length > cursor.remainingBytes) {
    throw cursor.invalid(`${what} has ${length} bytes, ${cursor.remainingBytes} are left`, offset);
  }
  if (length > bytesMax) {
    throw cursor.limit(`${what} has ${length} bytes, above ${bytesMax}`, bytesMax, offset);
  }
  const text = Buffer.from(await cursor.bytes(length, what)).toString('latin1');
  if (!/^[\x20-\x7e]+$/.test(text)) {
    throw cursor.invalid(`${what} is not printable ASCII: ${quoted(text)}`, offset);
  }
  spendText(cursor, budget, length, what);
  return text;
}

function spendText(cursor: GgufCursor, budget: TextBudget, bytes: number, what: string): void {
  budget.bytesLeft -= bytes;
  if (budget.bytesLeft < 0) {
    throw cursor.limit(`${what} takes all text above ${TEXT_BYTES_MAX} bytes`, TEXT_BYTES_MAX);
  }
}

/** A value. `key` is quoted for messages. */
export async function readText(cursor: GgufCursor, key: string, budget: TextBudget): Promise<string> {
  await cursor.require(8, `the length of ${key}`);
  const length = cursor.size(`the length of ${key}`);
  const offset = cursor.position;
  if (length <= cursor.remainingBytes) spendText(cursor, budget, length, key);
  const bytes = await cursor.bytes(length, key);
  // Native code takes these as C strings: it would see another text than we do.
  if (bytes.includes(0)) throw cursor.invalid(`${key} has a NUL in its text`, offset);
  try {
    return utf8.decode(bytes);
  } catch (cause) {
    const error = cursor.invalid(`${key} is not UTF-8`, offset);
    error.cause = cause;
    throw error;
  }
}
