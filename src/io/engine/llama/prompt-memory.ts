import { FreeholdError } from '../../../core/base/errors.ts';
import { type NativeContext, PIECE_TOKENS } from './native-context.ts';

/**
 * What the context remembers, and how much of it the next prompt can use again.
 *
 * A position is *regular* when it was read as part of a prompt, in the pieces that every prompt is cut into, over
 * regular positions only. Answers are evaluated token by token, which gives slightly other numbers. A reproducible
 * request stands on regular pieces alone, so that it sees the same numbers whatever was asked before; any other takes
 * all that fits.
 */
export class PromptMemory {
  readonly #context: NativeContext;
  #tokens: number[] = [];
  #regularCount = 0;

  constructor(context: NativeContext) {
    this.#context = context;
  }

  /**
   * Evaluates a prompt; its last token's logits are there afterwards.
   * @returns how many tokens were remembered, or undefined when aborted
   */
  async read(prompt: readonly number[], isReproducible: boolean): Promise<number | undefined> {
    const wanted = this.#reusableCount(prompt, isReproducible);
    const reused = this.#context.keep(wanted);
    this.#tokens.length = reused;
    this.#regularCount = Math.min(this.#regularCount, reused);
    for (let position = reused; position < prompt.length; ) {
      const end = pieceEnd(position, prompt.length);
      const piece = prompt.slice(position, end);
      if (!(await this.#context.decode(piece, position, end === prompt.length))) return undefined;
      const isRegular = this.#regularCount === position && position % PIECE_TOKENS === 0;
      this.#tokens.push(...piece);
      if (isRegular && end % PIECE_TOKENS === 0) this.#regularCount = end;
      position = end;
    }
    return reused;
  }

  /** Evaluates one token of the answer. @returns false when aborted */
  async append(token: number): Promise<boolean> {
    if (!(await this.#context.decode([token], this.#tokens.length, true))) return false;
    this.#tokens.push(token);
    return true;
  }

  get tokenCount(): number {
    return this.#tokens.length;
  }

  #reusableCount(prompt: readonly number[], isReproducible: boolean): number {
    // At least one token must be evaluated for its logits; two, since single ones are computed differently.
    const most = Math.min(this.#tokens.length, Math.max(0, prompt.length - 2));
    let common = 0;
    while (common < most && this.#tokens[common] === prompt[common]) common++;
    if (!isReproducible) return common;
    const regular = Math.min(common, this.#regularCount);
    return regular - (regular % PIECE_TOKENS);
  }
}

function pieceEnd(position: number, length: number): number {
  const end = Math.min(length, position + PIECE_TOKENS - (position % PIECE_TOKENS));
  if (end <= position) throw new FreeholdError('INTERNAL', `piece at ${position} of ${length}`);
  return end;
}
