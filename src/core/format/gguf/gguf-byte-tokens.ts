import type { GgufArray } from './gguf-array.ts';
import type { GgufFile } from './gguf-types.ts';
import { ggufInvalid } from './gguf-values.ts';

/** The byte that a token stands for, or undefined; by what `tokenizer.ggml.model` says. */
const BYTE_OF: Readonly<Record<string, (text: Uint8Array) => number | undefined>> = {
  llama: sentencePieceByte,
  rwkv: rwkvByte,
};
const BYTE_VALUES = 256;
/** `<0x0A>`. */
const SENTENCE_PIECE_BYTE_CHARACTERS = 6;
/** `\x0a`. */
const RWKV_BYTE_CHARACTERS_MAX = 4;

/**
 * Refuses vocabularies that cannot spell every byte, where native code relies on it: any text with that byte would end
 * the process. SentencePiece looks it up and throws through the C interface; RWKV's tokenizer begins anew for ever when
 * a text begins like a token and is none, until memory is full.
 * @param key of the array, for messages
 * @throws GGUF_INVALID naming the byte
 */
export function verifyByteTokens(file: GgufFile, key: string, model: string, tokens: GgufArray): void {
  const byteOf = Object.hasOwn(BYTE_OF, model) ? BYTE_OF[model] : undefined;
  if (byteOf === undefined) return;
  const isSpelled = new Uint8Array(BYTE_VALUES);
  for (const text of tokens.strings()) {
    const byte = byteOf(text);
    if (byte !== undefined) isSpelled[byte] = 1;
  }
  const missing = isSpelled.indexOf(0);
  if (missing < 0) return;
  const hex = missing.toString(16).toUpperCase().padStart(2, '0');
  throw ggufInvalid(file, key, `has no token for the byte <0x${hex}>`);
}

function sentencePieceByte(text: Uint8Array): number | undefined {
  if (text.byteLength === 1) return text[0];
  if (text.byteLength !== SENTENCE_PIECE_BYTE_CHARACTERS) return undefined;
  const [, hex] = /^<0x([0-9A-F]{2})>$/.exec(latin1(text)) ?? [];
  return hex === undefined ? undefined : Number.parseInt(hex, 16);
}

/** Texts are escaped in the file; hexadecimal digits are lower case to native code. */
function rwkvByte(text: Uint8Array): number | undefined {
  if (text.byteLength === 0 || text.byteLength > RWKV_BYTE_CHARACTERS_MAX) return undefined;
  const [, plain, escaped, hex] = /^(?:([^\\])|\\([^x])|\\x([0-9a-f]{2}))$/s.exec(latin1(text)) ?? [];
  if (hex !== undefined) return Number.parseInt(hex, 16);
  const named: Readonly<Record<string, string>> = { t: '\t', n: '\n', r: '\r' };
  const character = escaped === undefined ? plain : (named[escaped] ?? escaped);
  return character?.charCodeAt(0);
}

function latin1(text: Uint8Array): string {
  return Buffer.from(text).toString('latin1');
}
