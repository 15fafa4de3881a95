import { PACKAGE_STOP_STRINGS_MAX, REQUEST_STOP_STRINGS_MAX } from '../../../core/base/request-limits.ts';

/** Of request and package together. Each one is compared at every character. */
export const STOP_STRINGS_MAX = REQUEST_STOP_STRINGS_MAX + PACKAGE_STOP_STRINGS_MAX;

export type StopOutcome =
  | { readonly kind: 'open'; readonly text: string }
  /** `text` is everything before `stop`; nothing comes after it. */
  | { readonly kind: 'stopped'; readonly text: string; readonly stop: string };

/**
 * Finds stop strings in text that arrives in pieces. Text that could be the beginning of one is held back.
 *
 * Of several, the one that is complete first wins; of those complete at the same character, the longest. So the
 * outcome depends on the characters alone, never on how tokens cut them.
 */
export class StopMatcher {
  readonly #stops: readonly string[];
  #held = '';

  /** @param stops none of them empty */
  constructor(stops: readonly string[]) {
    this.#stops = [...new Set(stops)].sort((left, right) => right.length - left.length);
  }

  push(text: string): StopOutcome {
    const window = this.#held + text;
    const hit = this.#firstComplete(window);
    if (hit !== undefined) {
      this.#held = '';
      return { kind: 'stopped', text: window.slice(0, hit.start), stop: hit.stop };
    }
    const released = window.length - this.#possibleBeginning(window);
    this.#held = window.slice(released);
    return { kind: 'open', text: window.slice(0, released) };
  }

  /** The end without a stop: what was held back is ordinary text after all. */
  finish(): string {
    const held = this.#held;
    this.#held = '';
    return held;
  }

  #firstComplete(window: string): { start: number; stop: string } | undefined {
    let best: { start: number; stop: string } | undefined;
    for (const stop of this.#stops) {
      const start = window.indexOf(stop);
      if (start < 0) continue;
      // Strictly earlier: at the same end the longer one, which comes first in the list, stays.
      if (best === undefined || start + stop.length < best.start + best.stop.length) best = { start, stop };
    }
    return best;
  }

  /** Length of the longest end of `window` with which some stop string begins. */
  #possibleBeginning(window: string): number {
    let longest = 0;
    for (const stop of this.#stops) {
      const most = Math.min(stop.length - 1, window.length);
      for (let length = most; length > longest; length--) {
        if (window.endsWith(stop.slice(0, length))) {
          longest = length;
          break;
        }
      }
    }
    return longest;
  }
}
