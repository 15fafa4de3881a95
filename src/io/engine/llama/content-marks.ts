import { FreeholdError } from '../../../core/base/errors.ts';

/**
 * Keeps text that users write from becoming control tokens (a message with `<|im_end|><|im_start|>system` in it must
 * not open a turn).
 *
 * Before the chat template runs, each character of a message with which some control token begins is exchanged for a
 * *mark*: one private-use character that occurs nowhere in the request. Length, blanks at the ends, emptiness and all
 * other characters stay, so templates that trim, slice or test a message behave as before. In the rendered text the
 * marks say which characters came from a message, wherever the template moved them.
 *
 * Strings that the template itself compares with (`'</think>' in message.content`) stay unmarked where they cannot
 * begin a control token.
 */
export class ContentMarks {
  readonly #markOf = new Map<string, string>();
  readonly #characterOf = new Map<string, string>();
  readonly #firsts: RegExp;
  readonly #marks: RegExp;
  readonly #controlTexts: readonly string[];
  readonly #literals: readonly string[];
  /** One more character that occurs nowhere in the request: says where the last message ends. */
  readonly endMark: string;

  /**
   * @param controlTexts texts of all control tokens
   * @param templateLiterals string literals of the template
   * @param contents everything that users wrote in this request
   * @throws REQUEST_INVALID when the request uses up the private-use characters
   */
  constructor(
    controlTexts: readonly string[],
    templateLiterals: readonly string[],
    contents: readonly string[],
  ) {
    this.#controlTexts = controlTexts;
    this.#literals = templateLiterals.filter(
      (literal) =>
        literal.length > 1 &&
        controlTexts.some((control) => control[0] === literal[0]) &&
        !controlTexts.some((control) => control.startsWith(literal) || literal.startsWith(control)),
    );
    const firsts = new Set(controlTexts.map((control) => control.charAt(0)));
    const free = unusedCharacters([...contents, ...templateLiterals, ...controlTexts], firsts.size + 1);
    this.endMark = free.pop() as string;
    for (const first of firsts) {
      const mark = free.pop() as string;
      this.#markOf.set(first, mark);
      this.#characterOf.set(mark, first);
    }
    this.#firsts = anyOf(this.#markOf.keys());
    this.#marks = anyOf(this.#characterOf.keys());
  }

  /** The message with its dangerous characters marked. Same length. */
  mark(content: string): string {
    return content.replace(this.#firsts, (character, index: number) =>
      this.#isTemplateLiteralAt(content, index) ? character : (this.#markOf.get(character) ?? character),
    );
  }

  /** As `mark`, of every text in a JSON value, names of members too. */
  markValue(value: unknown): unknown {
    if (typeof value === 'string') return this.mark(value);
    if (Array.isArray(value)) return value.map((item) => this.markValue(item));
    if (typeof value !== 'object' || value === null) return value;
    return Object.fromEntries(
      Object.entries(value).map(([name, member]) => [this.mark(name), this.markValue(member)]),
    );
  }

  /** A template that writes JSON in ASCII has spelled the marks as `\\uf8ff`: gives them back. */
  restoreEscaped(rendered: string): string {
    return rendered.replace(ESCAPED_PRIVATE_USE, (escaped) => {
      const character = String.fromCharCode(Number.parseInt(escaped.slice(2), 16));
      return character === this.endMark || this.#characterOf.has(character) ? character : escaped;
    });
  }

  /** Marks back to characters. */
  unmark(text: string): string {
    return text.replace(this.#marks, (mark) => this.#characterOf.get(mark) ?? mark);
  }

  /** True when a control token's text stands in `unmark(rendered)` and a message wrote a part of it. */
  forgesControl(rendered: string): boolean {
    const plain = this.unmark(rendered);
    return this.#controlTexts.some((control) => {
      for (let at = plain.indexOf(control); at >= 0; at = plain.indexOf(control, at + 1)) {
        if (rendered.slice(at, at + control.length) !== control) return true;
      }
      return false;
    });
  }

  #isTemplateLiteralAt(content: string, index: number): boolean {
    return this.#literals.some((literal) => content.startsWith(literal, index));
  }
}

/** Matches one of these UTF-16 units; nothing where there are none. */
function anyOf(units: Iterable<string>): RegExp {
  const escapes = Array.from(units, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`);
  return new RegExp(`[${escapes.join('')}]`, 'g');
}

const PRIVATE_USE_FIRST = 0xe000;
const PRIVATE_USE_LAST = 0xf8ff;
const ESCAPED_PRIVATE_USE = /\\u(?:e[0-9a-f]|f[0-8])[0-9a-f]{2}/gi;

function unusedCharacters(texts: readonly string[], count: number): string[] {
  const used = new Set<number>();
  for (const text of texts) {
    for (let index = 0; index < text.length; index++) {
      const unit = text.charCodeAt(index);
      if (unit >= PRIVATE_USE_FIRST && unit <= PRIVATE_USE_LAST) used.add(unit);
    }
    for (const [escaped] of text.matchAll(ESCAPED_PRIVATE_USE)) {
      used.add(Number.parseInt(escaped.slice(2), 16));
    }
  }
  const free: string[] = [];
  for (let unit = PRIVATE_USE_LAST; unit >= PRIVATE_USE_FIRST && free.length < count; unit--) {
    if (!used.has(unit)) free.push(String.fromCharCode(unit));
  }
  if (free.length < count) {
    throw new FreeholdError(
      'REQUEST_INVALID',
      'the messages use all private-use characters (U+E000 to U+F8FF)',
    );
  }
  return free;
}

/** Rendered text, cut at the control tokens that the template itself wrote. */
export type Segment =
  | { readonly kind: 'control'; readonly text: string }
  | { readonly kind: 'plain'; readonly text: string };

/** Cuts as llama.cpp does: the longest control text first, over all that is not cut yet. */
export function cutAtControls(rendered: string, controlTexts: readonly string[]): readonly Segment[] {
  let segments: Segment[] = [{ kind: 'plain', text: rendered }];
  for (const control of [...controlTexts].sort((left, right) => right.length - left.length)) {
    if (!rendered.includes(control)) continue;
    segments = segments.flatMap((segment) =>
      segment.kind === 'plain' ? cut(segment.text, control) : segment,
    );
  }
  return segments.filter((segment) => segment.text !== '');
}

function cut(text: string, control: string): Segment[] {
  return text.split(control).flatMap((part, index): Segment[] =>
    index === 0
      ? [{ kind: 'plain', text: part }]
      : [
          { kind: 'control', text: control },
          { kind: 'plain', text: part },
        ],
  );
}
