import { FreeholdError } from '../../../core/base/errors.ts';
import type { LlamaLibrary, Pointer } from './llama-library.ts';

/** `enum llama_token_attr` of llama.h. */
export const ATTRIBUTE_UNKNOWN = 1;
export const ATTRIBUTE_CONTROL = 8;
const ATTRIBUTE_USER_DEFINED = 16;
/** llama.cpp's longest pieces are a few hundred bytes; a larger one is asked for again with room. */
const PIECE_BYTES = 1024;

/** Tokens and bytes of one model. Everything here is quick: no request waits for it. */
export interface Vocabulary {
  readonly tokenCount: number;
  /** Prepended to a prompt when the model wants it, else undefined. */
  readonly prependedBos: number | undefined;
  readonly bosText: string;
  readonly eosText: string;
  /**
   * Text → id of the tokens with which a template structures a chat. Besides those marked as control these are
   * user-defined ones of the shape `<|…|>`, since some conversions mark turns so.
   */
  readonly controls: ReadonlyMap<string, number>;
  /** Of a text, no token stands for more UTF-16 units than this. Computed when it is first asked for. */
  longestTokenUnits(): number;
  isEndOfGeneration(token: number): boolean;
  /** Without BOS. `parseControls`: control texts in it become control tokens. */
  tokenize(text: string, parseControls: boolean): number[];
  /** With everything that the model wants around an input (`[CLS]`, `[SEP]`); for embeddings. */
  tokenizeInput(text: string): number[];
  /** Bytes as they appear in an answer: none for control tokens. */
  visibleBytes(token: number): Uint8Array;
  /** Bytes with control tokens spelled out; for log-probabilities. */
  spelledBytes(token: number): Uint8Array;
}

export function readVocabulary(library: LlamaLibrary, model: Pointer): Vocabulary {
  const vocabulary = library.vocabularyOf(model);
  const tokenCount = library.tokenCount(vocabulary);
  const bos = library.bosToken(vocabulary);
  const textOf = (token: number): string => (token < 0 ? '' : (library.tokenText(vocabulary, token) ?? ''));
  let longest: number | undefined;
  return {
    tokenCount,
    prependedBos: library.addsBos(vocabulary) && bos >= 0 ? bos : undefined,
    bosText: textOf(bos),
    eosText: textOf(library.eosToken(vocabulary)),
    controls: readControls(library, vocabulary, tokenCount),
    longestTokenUnits: () => {
      longest ??= longestOf(tokenCount, textOf);
      return longest;
    },
    isEndOfGeneration: (token) => library.isEndOfGeneration(vocabulary, token),
    tokenize: (text, parseControls) => tokenize(library, vocabulary, text, false, parseControls),
    tokenizeInput: (text) => tokenize(library, vocabulary, text, true, false),
    visibleBytes: pieceReader(library, vocabulary, false),
    spelledBytes: pieceReader(library, vocabulary, true),
  };
}

function readControls(
  library: LlamaLibrary,
  vocabulary: Pointer,
  tokenCount: number,
): ReadonlyMap<string, number> {
  const controls = new Map<string, number>();
  for (let token = 0; token < tokenCount; token++) {
    const attributes = library.tokenAttributes(vocabulary, token);
    if ((attributes & (ATTRIBUTE_UNKNOWN | ATTRIBUTE_CONTROL | ATTRIBUTE_USER_DEFINED)) === 0) continue;
    const text = library.tokenText(vocabulary, token) ?? '';
    const isControl =
      (attributes & (ATTRIBUTE_UNKNOWN | ATTRIBUTE_CONTROL)) !== 0 || /^<\|.*\|>$/s.test(text);
    if (isControl && text !== '') controls.set(text, token);
  }
  return controls;
}

/**
 * A token's own text has one unit for each byte that it stands for (byte-level BPE), or is the text itself
 * (SentencePiece): never less than what it stands for.
 */
function longestOf(tokenCount: number, textOf: (token: number) => string): number {
  let longest = 1;
  for (let token = 0; token < tokenCount; token++) longest = Math.max(longest, textOf(token).length);
  return longest;
}

function tokenize(
  library: LlamaLibrary,
  vocabulary: Pointer,
  text: string,
  addSpecial: boolean,
  parseSpecial: boolean,
): number[] {
  const bytes = Buffer.from(text, 'utf8');
  // A token for each byte at most, a blank that the tokenizer prepends, and BOS and EOS.
  const tokens = new Int32Array(bytes.length + 8);
  const count = library.tokenize(
    vocabulary,
    bytes.length === 0 ? Buffer.alloc(1) : bytes,
    bytes.length,
    tokens,
    tokens.length,
    addSpecial,
    parseSpecial,
  );
  if (count < 0)
    throw new FreeholdError('ENGINE_FAILED', `tokenizer refused a text of ${bytes.length} bytes`);
  return Array.from(tokens.subarray(0, count));
}

/** Reads the bytes of a token. @param special control tokens are spelled out, else they have none */
export function pieceReader(
  library: LlamaLibrary,
  vocabulary: Pointer,
  special: boolean,
): (token: number) => Uint8Array {
  const buffer = Buffer.alloc(PIECE_BYTES);
  return (token) => {
    const count = library.tokenToPiece(vocabulary, token, buffer, buffer.length, 0, special);
    if (count >= 0) return Uint8Array.prototype.slice.call(buffer, 0, count);
    const large = Buffer.alloc(-count);
    const again = library.tokenToPiece(vocabulary, token, large, large.length, 0, special);
    return large.subarray(0, Math.max(0, again));
  };
}
