import { FreeholdError } from '../base/errors.ts';
import { quoted } from '../base/ids.ts';

/** As in `GenerateEvent`. */
export type ToolCallEvent =
  | { readonly kind: 'tool-call'; readonly index: number; readonly name: string }
  | { readonly kind: 'tool-arguments'; readonly index: number; readonly text: string };

/**
 * Where the reader is:
 * `start` → (`[`) → `call` → `name` → `arguments` → `close` → `next` → `call` … → `end`.
 */
type Place = 'start' | 'call' | 'name' | 'middle' | 'arguments' | 'close' | 'next' | 'end';

/** What stands literally at a place, and where it leads. */
const LITERALS: Readonly<Partial<Record<Place, readonly [literal: string, next: Place]>>> = {
  call: ['{"name":"', 'name'],
  middle: [',"arguments":', 'arguments'],
  close: ['}', 'next'],
};

/**
 * Reads an answer of `compileToolCalls` while it arrives, in whatever pieces. The concatenated texts of the events of
 * one call are exactly the JSON text of its arguments.
 */
export class ToolCallReader {
  #place: Place = 'start';
  #isList = false;
  #index = 0;
  /** Characters of the literal that have come. */
  #matched = 0;
  /** JSON text of the name so far, with both quotes in the end. */
  #name = '"';
  #depth = 0;
  #isInString = false;
  #isEscaped = false;

  /** @throws ENGINE_FAILED when the text has another form: no grammar was in force */
  push(text: string): ToolCallEvent[] {
    const events: ToolCallEvent[] = [];
    let offset = 0;
    while (offset < text.length) {
      if (this.#place !== 'arguments') {
        this.#character(text.charAt(offset++), events);
        continue;
      }
      const end = this.#argumentsEnd(text, offset);
      events.push({ kind: 'tool-arguments', index: this.#index, text: text.slice(offset, end) });
      offset = end;
    }
    return events;
  }

  /** Whether all calls are complete, and there is one. */
  finish(): { readonly isComplete: boolean } {
    return { isComplete: this.#place === 'end' || (this.#place === 'next' && !this.#isList) };
  }

  #character(character: string, events: ToolCallEvent[]): void {
    if (this.#place === 'start') {
      this.#place = 'call';
      this.#isList = character === '[';
      if (this.#isList) return;
    }
    if (this.#place === 'name') {
      this.#nameCharacter(character, events);
    } else if (this.#place === 'next') {
      if (!this.#isList || (character !== ',' && character !== ']')) throw this.#otherForm(character);
      this.#place = character === ',' ? 'call' : 'end';
      this.#index++;
    } else {
      const [literal, next] = LITERALS[this.#place] ?? ['', 'end'];
      if (literal[this.#matched] !== character) throw this.#otherForm(character);
      if (++this.#matched < literal.length) return;
      this.#matched = 0;
      this.#place = next;
    }
  }

  #nameCharacter(character: string, events: ToolCallEvent[]): void {
    this.#name += character;
    if (this.#isEscaped) this.#isEscaped = false;
    else if (character === '\\') this.#isEscaped = true;
    else if (character === '"') {
      events.push({ kind: 'tool-call', index: this.#index, name: String(JSON.parse(this.#name)) });
      this.#name = '"';
      this.#place = 'middle';
    }
  }

  /** Offset behind what belongs to the arguments: an object, which ends where its brackets are closed. */
  #argumentsEnd(text: string, start: number): number {
    for (let offset = start; offset < text.length; offset++) {
      const character = text.charAt(offset);
      if (this.#isEscaped) this.#isEscaped = false;
      else if (this.#isInString) {
        if (character === '\\') this.#isEscaped = true;
        else if (character === '"') this.#isInString = false;
      } else if (character === '"') this.#isInString = true;
      else if (character === '{' || character === '[') this.#depth++;
      else if (character === '}' || character === ']') this.#depth--;
      if (this.#depth === 0) {
        if (character !== '}') throw this.#otherForm(character);
        this.#place = 'close';
        return offset + 1;
      }
    }
    return text.length;
  }

  #otherForm(character: string): FreeholdError {
    return new FreeholdError(
      'ENGINE_FAILED',
      `the answer is no tool call: ${quoted(character)} at its ${this.#place}`,
    );
  }
}
