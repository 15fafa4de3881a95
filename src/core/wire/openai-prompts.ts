import { invalid } from './openai-shape.ts';

/** Largest token id that fits llama.cpp's signed 32 bits; the model's own vocabulary is checked later. */
const TOKEN_ID_MAX = 2 ** 31 - 1;

export type TextOrTokens = string | readonly number[];

/**
 * Reads the four forms in which OpenAI takes prompts and embedding inputs: a string, an array of strings, an array of
 * token ids, an array of arrays of token ids.
 * @throws REQUEST_INVALID
 */
export function parsePrompts(value: unknown, param: string, countMax: number): readonly TextOrTokens[] {
  if (typeof value === 'string') return [parseText(value, param)];
  if (!Array.isArray(value)) throw invalid(param, 'is neither a string nor an array');
  if (value.length === 0) throw invalid(param, 'is an empty array');
  if (typeof value[0] === 'number') return [parseTokens(value, param)];
  if (value.length > countMax)
    throw invalid(param, `has ${value.length} elements, and ${countMax} are allowed`);
  return value.map((element: unknown, index) =>
    typeof element === 'string'
      ? parseText(element, `${param}[${index}]`)
      : parseTokens(element, `${param}[${index}]`),
  );
}

function parseText(text: string, param: string): string {
  if (!text.isWellFormed()) throw invalid(param, 'contains half of a surrogate pair');
  return text;
}

function parseTokens(value: unknown, param: string): readonly number[] {
  if (!Array.isArray(value)) throw invalid(param, 'is neither a string nor an array of token ids');
  if (value.length === 0) throw invalid(param, 'is an empty array');
  for (const [index, token] of value.entries()) {
    if (!Number.isInteger(token) || token < 0 || token > TOKEN_ID_MAX) {
      throw invalid(`${param}[${index}]`, 'is not a token id');
    }
  }
  return value;
}

/** @throws REQUEST_INVALID naming the first token that the model does not have */
export function requireTokensKnown(tokens: Iterable<number>, vocabularyTokens: number, param: string): void {
  for (const token of tokens) {
    if (token >= vocabularyTokens) {
      throw invalid(param, `token ${token} is not in the vocabulary of ${vocabularyTokens} tokens`);
    }
  }
}
