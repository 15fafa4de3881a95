import type { GgufArray } from './gguf-array.ts';
import { verifyByteTokens } from './gguf-byte-tokens.ts';
import { TOKEN_BYTES_MAX, VOCABULARY_TOKENS_MAX } from './gguf-limits.ts';
import { verifyDistinctTexts } from './gguf-token-texts.ts';
import type { GgufFile } from './gguf-types.ts';
import {
  arrayValue,
  ggufInvalid,
  optionalArray,
  optionalBoolean,
  optionalInteger,
  stringValue,
} from './gguf-values.ts';

const TOKENS = 'tokenizer.ggml.tokens';
const SCORES = 'tokenizer.ggml.scores';
const TOKEN_TYPES = 'tokenizer.ggml.token_type';
const CHARSMAP = 'tokenizer.ggml.precompiled_charsmap';
/** `LLAMA_TOKEN_TYPE_BYTE`; the others are 0 to 5. */
const BYTE_TOKEN = 6;
const BYTE_TOKEN_TEXT = /^<0x[0-9A-Fa-f]{2}>$/;

/**
 * Ids that llama.cpp takes where the file names none (`llama_vocab::impl::load`). A vocabulary that is too small for
 * them was read out of bounds: GHSA-g4cc-763q-h9h6 and llama.cpp pull request 25508.
 */
const DEFAULT_IDS: Readonly<Record<string, Readonly<Record<string, number>>>> = {
  llama: { bos: 1, eos: 2, unknown: 0 },
  bert: { bos: 101, unknown: 100, seperator: 102, padding: 0, mask: 103 },
  gpt2: { bos: 11, eos: 11 },
  t5: { eos: 1, unknown: 2, padding: 0 },
  plamo2: { bos: 1, eos: 2, unknown: 0, padding: 3 },
};

/** Which flag adds which token. */
const ADDED_TOKENS = [
  ['bos', 'bos'],
  ['eos', 'eos'],
  ['seperator', 'sep'],
] as const;

/**
 * Checks a tokenizer against itself and against the embedding table.
 * @throws GGUF_INVALID naming file and key
 */
export function verifyVocabulary(file: GgufFile, architecture: string, shards: readonly GgufFile[]): void {
  const model = stringValue(file, 'tokenizer.ggml.model');
  const declared = optionalInteger(file, `${architecture}.vocab_size`);
  // With no tokenizer the native vector is as long as the file says (llama.cpp pull request 26690).
  if (declared !== undefined && (declared < 1 || declared > VOCABULARY_TOKENS_MAX)) {
    throw ggufInvalid(
      file,
      `${architecture}.vocab_size`,
      `is ${declared} instead of 1 to ${VOCABULARY_TOKENS_MAX}`,
    );
  }
  if (model === 'none' || model === 'no_vocab') {
    // Nothing but this number says how many rows of logits are made room for.
    if (declared !== undefined) verifyEmbeddingRows(file, declared, shards);
    return;
  }
  const tokens = arrayValue(file, TOKENS, ['string']);
  if (tokens.length === 0 || tokens.length > VOCABULARY_TOKENS_MAX) {
    throw ggufInvalid(file, TOKENS, `has ${tokens.length} tokens instead of 1 to ${VOCABULARY_TOKENS_MAX}`);
  }
  if (declared !== undefined && declared !== tokens.length) {
    throw ggufInvalid(
      file,
      `${architecture}.vocab_size`,
      `is ${declared}, and there are ${tokens.length} tokens`,
    );
  }
  verifyEmbeddingRows(file, tokens.length, shards);
  verifyScores(file, tokens.length);
  verifyTokenTexts(file, tokens, model);
  verifyDistinctTexts(file, TOKENS, tokens);
  optionalArray(file, 'tokenizer.ggml.merges', ['string']);
  verifyTokenIds(file, tokens.length, model);
  verifyAddedTokens(file, model);
  verifyByteTokens(file, TOKENS, model, tokens);
  verifyCharsmap(file);
}

/** A token without a row in the table is read out of bounds, or aborts, when it is decoded. */
function verifyEmbeddingRows(file: GgufFile, tokenCount: number, shards: readonly GgufFile[]): void {
  for (const shard of shards) {
    const table = shard.tensors.find(({ name }) => name === 'token_embd.weight');
    if (table !== undefined && table.dimensions[1] !== tokenCount) {
      throw ggufInvalid(
        file,
        TOKENS,
        `has ${tokenCount} tokens, and token_embd.weight has ${table.dimensions[1] ?? 1} rows`,
      );
    }
  }
}

/** Narrower or shorter arrays were read as int32 or float past their end (llama.cpp issue 24888, pull request 20735). */
function verifyScores(file: GgufFile, tokenCount: number): void {
  const scores = optionalArray(file, SCORES, ['float32']);
  if (scores === undefined) return;
  requireLength(file, SCORES, scores, tokenCount);
  for (let index = 0; index < tokenCount; index++) {
    // Tokenizers sort by score, and NaN has no order. −∞ stands for "never".
    if (Number.isNaN(scores.numberAt(index))) throw ggufInvalid(file, SCORES, `is NaN for token ${index}`);
  }
}

function verifyTokenTexts(file: GgufFile, tokens: GgufArray, model: string): void {
  const types = optionalArray(file, TOKEN_TYPES, ['int32']);
  if (types !== undefined) requireLength(file, TOKEN_TYPES, types, tokens.length);
  let index = 0;
  for (const text of tokens.strings()) {
    // CVE-2025-49847: the length of a token, cut to 32 bits, passed a check that it should not have.
    if (text.byteLength > TOKEN_BYTES_MAX) {
      throw ggufInvalid(
        file,
        TOKENS,
        `has the token ${index} of ${text.byteLength} bytes, above ${TOKEN_BYTES_MAX}`,
      );
    }
    const type = types?.numberAt(index) ?? 0;
    if (type < 0 || type > BYTE_TOKEN) throw ggufInvalid(file, TOKEN_TYPES, `is ${type} for token ${index}`);
    // The tokenizer of BERT has no bytes, and aborts when it is to say one.
    if (type === BYTE_TOKEN && model === 'bert') {
      throw ggufInvalid(file, TOKEN_TYPES, `is ${type} for token ${index}, and BERT has no byte tokens`);
    }
    // "<0x-1>" became the index −1 of a table that is written (llama.cpp pull requests 25969 and 26511).
    if (
      type === BYTE_TOKEN &&
      model !== 'gpt2' &&
      !BYTE_TOKEN_TEXT.test(Buffer.from(text).toString('latin1'))
    ) {
      throw ggufInvalid(file, TOKENS, `has the byte token ${index}, which is not written like <0x0A>`);
    }
    index++;
  }
}

/** A token that shall be added before or behind every text, but that there is not, ends the process (`GGML_ASSERT`). */
function verifyAddedTokens(file: GgufFile, model: string): void {
  for (const [role, flag] of ADDED_TOKENS) {
    if (optionalBoolean(file, `tokenizer.ggml.add_${flag}_token`) !== true) continue;
    const key = `tokenizer.ggml.${role}_token_id`;
    const hasDefault = DEFAULT_IDS[model]?.[role] !== undefined;
    if (!file.metadata.has(key) && !hasDefault)
      throw ggufInvalid(file, key, 'is missing, and is to be added');
  }
}

/** Ids index the vocabulary without a check (GHSA-g4cc-763q-h9h6, llama.cpp pull request 25475). */
function verifyTokenIds(file: GgufFile, tokenCount: number, model: string): void {
  for (const key of file.metadata.keys()) {
    if (!/^tokenizer\.ggml\.[a-z_]+_token_id$/.test(key)) continue;
    const id = optionalInteger(file, key);
    if (id === undefined || id < 0 || id >= tokenCount) {
      throw ggufInvalid(file, key, `is ${id}, and there are ${tokenCount} tokens`);
    }
  }
  for (const [role, id] of Object.entries(DEFAULT_IDS[model] ?? {})) {
    const key = `tokenizer.ggml.${role}_token_id`;
    if (id >= tokenCount && !file.metadata.has(key)) {
      throw ggufInvalid(file, key, `is missing and ${id} by default, and there are ${tokenCount} tokens`);
    }
  }
  const suppressed = optionalArray(file, 'tokenizer.ggml.suppress_tokens', ['int32']);
  for (let index = 0; index < (suppressed?.length ?? 0); index++) {
    const id = suppressed?.numberAt(index) ?? 0;
    if (id < 0 || id >= tokenCount) {
      throw ggufInvalid(
        file,
        'tokenizer.ggml.suppress_tokens',
        `has ${id}, and there are ${tokenCount} tokens`,
      );
    }
  }
}

/**
 * The normalizer of T5 vocabularies: a byte count, a table of that many bytes, then strings that end with NUL.
 * GHSA-ppcr-mg43-5hq3 and GHSA-4383-xr9f-c744 were reads past its end.
 */
function verifyCharsmap(file: GgufFile): void {
  const charsmap = optionalArray(file, CHARSMAP, ['uint8', 'int8']);
  if (charsmap === undefined || charsmap.length === 0) return;
  const { encoded } = charsmap;
  const tableBytes =
    encoded.byteLength < 4
      ? Number.NaN
      : new DataView(encoded.buffer, encoded.byteOffset, encoded.byteLength).getUint32(0, true);
  const isInside = tableBytes % 4 === 0 && tableBytes <= encoded.byteLength - 4;
  const hasText = isInside && tableBytes < encoded.byteLength - 4;
  if (!isInside || (hasText && encoded.at(-1) !== 0)) {
    throw ggufInvalid(
      file,
      CHARSMAP,
      `of ${encoded.byteLength} bytes does not hold the table that it begins with`,
    );
  }
}

function requireLength(file: GgufFile, key: string, array: GgufArray, tokenCount: number): void {
  if (array.length !== tokenCount) {
    throw ggufInvalid(file, key, `has ${array.length} elements, and there are ${tokenCount} tokens`);
  }
}
