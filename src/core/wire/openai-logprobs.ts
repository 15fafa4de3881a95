import type { GeneratedToken, TokenLogprob } from '../base/engine-port.ts';

/** What OpenAI shows for a token without any probability; JSON has no infinity. */
const IMPOSSIBLE_LOGPROB = -9999;

export interface ChatTopLogprob {
  readonly token: string;
  readonly logprob: number;
  readonly bytes: number[];
}

export interface ChatTokenLogprob extends ChatTopLogprob {
  readonly top_logprobs: ChatTopLogprob[];
}

export interface ChatLogprobs {
  readonly content: ChatTokenLogprob[];
  readonly refusal: null;
}

/** `choices[].logprobs` of chat completions and their chunks. */
export function encodeChatLogprobs(tokens: readonly GeneratedToken[]): ChatLogprobs {
  return {
    content: tokens.map((token) => ({ ...encodeToken(token), top_logprobs: token.top.map(encodeToken) })),
    refusal: null,
  };
}

function encodeToken(token: TokenLogprob): ChatTopLogprob {
  return {
    token: decodeToken(token.bytes) ?? escapeBytes(token.bytes),
    logprob: finite(token.logprob),
    bytes: Array.from(token.bytes),
  };
}

/** `choices[].logprobs` of plain completions: four parallel arrays. */
export interface CompletionLogprobs {
  readonly tokens: string[];
  readonly token_logprobs: number[];
  readonly top_logprobs: Record<string, number>[];
  readonly text_offset: number[];
}

/**
 * @param charactersBefore code points of the tokens of this choice that were sent in earlier chunks
 */
export function encodeCompletionLogprobs(
  tokens: readonly GeneratedToken[],
  charactersBefore = 0,
): CompletionLogprobs {
  let characters = charactersBefore;
  const offsets = tokens.map((token) => {
    const offset = isContinuation(token.bytes[0]) ? characters - 1 : characters;
    characters += countCharacters(token.bytes);
    return Math.max(0, offset);
  });
  return {
    tokens: tokens.map(encodeName),
    token_logprobs: tokens.map((token) => finite(token.logprob)),
    top_logprobs: tokens.map(encodeTop),
    text_offset: offsets,
  };
}

/** Characters (code points) that begin in these bytes: those that are no UTF-8 continuation bytes. */
export function countCharacters(bytes: Uint8Array): number {
  return bytes.reduce((count, byte) => (isContinuation(byte) ? count : count + 1), 0);
}

function encodeTop(token: GeneratedToken): Record<string, number> {
  // The chosen token is always there. The likeliest wins where two tokens have one text.
  const entries = new Map<string, number>();
  for (const candidate of [token, ...token.top]) {
    const name = encodeName(candidate);
    entries.set(name, Math.max(finite(candidate.logprob), entries.get(name) ?? Number.NEGATIVE_INFINITY));
  }
  return Object.fromEntries(entries);
}

function encodeName(token: TokenLogprob): string {
  return decodeToken(token.bytes) ?? `bytes:${escapeBytes(token.bytes)}`;
}

/** Undefined when the bytes are no whole characters. */
function decodeToken(bytes: Uint8Array): string | undefined {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return undefined;
  }
}

/** `\xf0\x9f`, as OpenAI writes half a character. */
function escapeBytes(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => `\\x${byte.toString(16).padStart(2, '0')}`).join('');
}

function isContinuation(byte: number | undefined): boolean {
  return byte !== undefined && (byte & 0xc0) === 0x80;
}

function finite(logprob: number): number {
  return Number.isFinite(logprob) ? logprob : IMPOSSIBLE_LOGPROB;
}
