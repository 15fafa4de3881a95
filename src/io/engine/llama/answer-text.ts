import { StopMatcher } from './stop-strings.ts';
import { Utf8Stream } from './utf8-stream.ts';

/** What one more token added to the visible answer. `T` is whatever the caller wants to get back with the text. */
export interface AnswerPiece<T> {
  readonly text: string;
  readonly tokens: readonly T[];
  /** Set when a stop string is complete; the answer ends here. */
  readonly stop?: string;
}

/**
 * The visible text of one answer: bytes to whole characters, stop strings cut off, and tokens attached to the piece
 * of text in which their last byte becomes visible. Tokens of a cut-off stop string are never attached.
 */
export class AnswerText<T> {
  readonly #utf8 = new Utf8Stream();
  readonly #stops: StopMatcher;
  /** UTF-16 units that became complete characters, and those of them that were handed out. */
  #decodedUnits = 0;
  #releasedUnits = 0;
  #waiting: { readonly token: T; readonly endUnits: number }[] = [];

  constructor(stops: readonly string[]) {
    this.#stops = new StopMatcher(stops);
  }

  push(bytes: Uint8Array, token: T): AnswerPiece<T> {
    const text = this.#utf8.push(bytes);
    this.#decodedUnits += text.length;
    // A character that has begun ends at least one unit later.
    this.#waiting.push({ token, endUnits: this.#decodedUnits + (this.#utf8.isHolding ? 1 : 0) });
    const outcome = this.#stops.push(text);
    const tokens = this.#release(outcome.text);
    return outcome.kind === 'stopped'
      ? { text: outcome.text, tokens, stop: outcome.stop }
      : { text: outcome.text, tokens };
  }

  /** The end without a stop string: everything that was held back. */
  finish(): AnswerPiece<T> {
    const outcome = this.#stops.push(this.#utf8.finish());
    if (outcome.kind === 'stopped') {
      return { text: outcome.text, tokens: this.#release(outcome.text), stop: outcome.stop };
    }
    const tokens = this.#waiting.map((entry) => entry.token);
    this.#waiting = [];
    return { text: outcome.text + this.#stops.finish(), tokens };
  }

  #release(text: string): readonly T[] {
    this.#releasedUnits += text.length;
    const isOut = (entry: { endUnits: number }): boolean => entry.endUnits <= this.#releasedUnits;
    const out = this.#waiting.filter(isOut).map((entry) => entry.token);
    if (out.length > 0) this.#waiting = this.#waiting.filter((entry) => !isOut(entry));
    return out;
  }
}
