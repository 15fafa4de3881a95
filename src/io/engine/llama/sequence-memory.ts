import { FreeholdError } from '../../../core/base/errors.ts';
import type { NativeContext, Row } from './native-context.ts';

/**
 * Prompts are read in pieces that begin at multiples of this. llama.cpp multiplies four rows at once and those that are
 * left over one by one, with slightly other numbers: on this grid each row is always computed in the same way.
 */
export const GRID_TOKENS = 16;

/**
 * What one sequence of the context remembers, and how much of it the next prompt can use again.
 *
 * A position is *regular* when it was read as part of a prompt, on the grid, over regular positions only. Answers are
 * evaluated token by token, which gives slightly other numbers. A reproducible request stands on regular positions alone,
 * so that it sees the same numbers whatever was asked before; any other takes all that fits.
 */
export class SequenceMemory {
  readonly sequence: number;
  readonly #context: Pick<NativeContext, 'trim' | 'copy'>;
  #tokens: number[] = [];
  #regularCount = 0;
  #adapter: number | undefined;

  constructor(context: Pick<NativeContext, 'trim' | 'copy'>, sequence: number) {
    this.#context = context;
    this.sequence = sequence;
  }

  get tokenCount(): number {
    return this.#tokens.length;
  }

  /** How many leading tokens of a prompt need not be evaluated again. */
  reusable(prompt: readonly number[], adapter: number | undefined, isReproducible: boolean): number {
    if (adapter !== this.#adapter) return 0;
    // At least one token must be evaluated for its logits; two, since single ones are computed differently.
    const most = Math.min(this.#tokens.length, Math.max(0, prompt.length - 2));
    const common = commonPrefix(this.#tokens, prompt, most);
    return isReproducible ? onGrid(Math.min(common, this.#regularCount)) : common;
  }

  /** Forgets what comes after `count` tokens; the next tokens are evaluated under `adapter`. @returns how many are left */
  keep(count: number, adapter: number | undefined): number {
    const kept = this.#context.trim(this.sequence, count);
    this.#tokens.length = Math.min(this.#tokens.length, kept);
    this.#regularCount = Math.min(this.#regularCount, onGrid(kept));
    this.#adapter = adapter;
    return this.#tokens.length;
  }

  /** Takes over what another sequence remembers. */
  copyFrom(other: SequenceMemory): void {
    this.#context.copy(other.sequence, this.sequence);
    this.#tokens = [...other.#tokens];
    this.#regularCount = other.#regularCount;
    this.#adapter = other.#adapter;
  }

  /** The next rows of a prompt of which all that is remembered is the beginning. */
  promptRows(prompt: readonly number[], tokensMax: number): Row[] {
    const begin = this.#tokens.length;
    const end = pieceEnd(begin, prompt.length, tokensMax);
    return prompt.slice(begin, end).map((token, index) => ({
      token,
      position: begin + index,
      sequence: this.sequence,
      wantsLogits: begin + index === prompt.length - 1,
    }));
  }

  answerRow(token: number): Row {
    return { token, position: this.#tokens.length, sequence: this.sequence, wantsLogits: true };
  }

  /** Rows of this sequence were evaluated. */
  add(rows: readonly Row[], arePrompt: boolean): void {
    const begin = this.#tokens.length;
    const isRegular = arePrompt && begin === this.#regularCount && begin % GRID_TOKENS === 0;
    for (const { token } of rows) this.#tokens.push(token);
    if (isRegular) this.#regularCount = onGrid(this.#tokens.length);
  }

  /** A call with rows of this sequence was aborted or failed: part of them may have been evaluated. */
  recover(): void {
    this.keep(this.#tokens.length, this.#adapter);
  }
}

function onGrid(count: number): number {
  return count - (count % GRID_TOKENS);
}

/** As far as `tokensMax` allows, and at a multiple of the grid unless the prompt ends before. */
function pieceEnd(begin: number, promptLength: number, tokensMax: number): number {
  if (begin + tokensMax >= promptLength) return promptLength;
  const end = onGrid(begin + tokensMax);
  // A single row at the end would be computed differently, depending on where the pieces before it ended.
  if (promptLength - end === 1) return end - GRID_TOKENS > begin ? end - GRID_TOKENS : promptLength;
  if (end <= begin) throw new FreeholdError('INTERNAL', `piece of ${tokensMax} tokens at ${begin}`);
  return end;
}

export function commonPrefix(left: readonly number[], right: readonly number[], most: number): number {
  let common = 0;
  while (common < most && left[common] === right[common]) common++;
  return common;
}
