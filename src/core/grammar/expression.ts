import type { CodePointSet } from './code-points.ts';

/** What a rule of a grammar stands for. Made by the functions below only, which keep it simple. */
export type Expression =
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'class'; readonly set: CodePointSet }
  | { readonly kind: 'rule'; readonly name: string }
  /** Empty: the empty text. */
  | { readonly kind: 'sequence'; readonly parts: readonly Expression[] }
  /** At least two. */
  | { readonly kind: 'choice'; readonly options: readonly Expression[] }
  | {
      readonly kind: 'repeat';
      readonly body: Expression;
      readonly min: number;
      readonly max: number | undefined;
    }
  /** No text at all fits, for a reason. */
  | { readonly kind: 'never'; readonly path: string; readonly reason: string };

export const EMPTY: Expression = { kind: 'sequence', parts: [] };

export const text = (value: string): Expression => (value === '' ? EMPTY : { kind: 'text', text: value });
export const rule = (name: string): Expression => ({ kind: 'rule', name });
export const never = (path: string, reason: string): Expression => ({ kind: 'never', path, reason });
/** One character of a set. */
export function oneOfSet(set: CodePointSet): Expression {
  const [range] = set;
  const isSingle = range !== undefined && set.length === 1 && range[0] === range[1];
  return isSingle ? text(String.fromCodePoint(range[0])) : { kind: 'class', set };
}
export const isEmpty = (expression: Expression) =>
  expression.kind === 'sequence' && expression.parts.length === 0;

/** One after the other; impossible as soon as one part is. */
export function sequence(...parts: readonly Expression[]): Expression {
  const flat: Expression[] = [];
  for (const part of parts) {
    if (part.kind === 'never') return part;
    for (const piece of partsOf(part)) {
      const last = flat.at(-1);
      if (piece.kind === 'text' && last?.kind === 'text')
        flat[flat.length - 1] = text(last.text + piece.text);
      else flat.push(piece);
    }
  }
  const [only] = flat;
  return only !== undefined && flat.length === 1 ? only : { kind: 'sequence', parts: flat };
}

/** Times `min` to `max`; absent: without end. The body must not be able to be empty. */
export function repeat(body: Expression, min: number, max: number | undefined): Expression {
  if (body.kind === 'never') return min === 0 ? EMPTY : body;
  if (max === 0) return EMPTY;
  return min === 1 && max === 1 ? body : { kind: 'repeat', body, min, max };
}

export function optional(body: Expression): Expression {
  return body.kind === 'repeat' && body.min === 1 ? repeat(body.body, 0, body.max) : choice([body, EMPTY]);
}

/** Beginnings that share beginnings, this often; deeper ones stay side by side. */
const FACTOR_DEPTH_MAX = 40;

/**
 * One of several. What begins alike is put together: llama.cpp follows every open alternative at every token, so that
 * an `enum` of a thousand words must not be a thousand alternatives.
 */
export function choice(options: readonly Expression[]): Expression {
  return choose(options, 0);
}

function choose(options: readonly Expression[], depth: number): Expression {
  const possible = options
    .filter((option) => option.kind !== 'never')
    .flatMap((option) => (option.kind === 'choice' ? option.options : [option]));
  if (possible.length === 0) return options[0] ?? never('#', 'nothing to choose from');
  const groups = new Map<string, (readonly Expression[])[]>();
  for (const option of possible) {
    const parts = partsOf(option);
    const key = headKey(parts[0]);
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [parts]);
    else group.push(parts);
  }
  const merged = [...groups.values()].flatMap((group) => joinBeginnings(group, depth));
  const [only] = merged;
  return only !== undefined && merged.length === 1 ? only : { kind: 'choice', options: merged };
}

function joinBeginnings(group: readonly (readonly Expression[])[], depth: number): Expression[] {
  const [first] = group;
  const head = first?.[0];
  if (first === undefined || group.length === 1) return group.map((parts) => sequence(...parts));
  if (head === undefined) return [EMPTY];
  if (depth === FACTOR_DEPTH_MAX) {
    const distinct = new Map(group.map((parts) => [expressionKey(sequence(...parts)), sequence(...parts)]));
    return [...distinct.values()];
  }
  if (head.kind !== 'text') {
    const tails = group.map((parts) => sequence(...parts.slice(1)));
    return [sequence(head, choose(tails, depth + 1))];
  }
  const texts = group.map(([part]) => (part?.kind === 'text' ? part.text : ''));
  const shared = commonBeginning(texts);
  const tails = group.map((parts, index) =>
    sequence(text((texts[index] ?? '').slice(shared.length)), ...parts.slice(1)),
  );
  return [sequence(text(shared), choose(tails, depth + 1))];
}

function commonBeginning(texts: readonly string[]): string {
  const [first = ''] = texts;
  let length = first.length;
  for (const other of texts) {
    let same = 0;
    while (same < length && first[same] === other[same]) same++;
    length = same;
  }
  // Not between the halves of a surrogate pair.
  return first.slice(0, length).isWellFormed() ? first.slice(0, length) : first.slice(0, length - 1);
}

/** A key that is equal for equal expressions. */
export const expressionKey = (expression: Expression): string => JSON.stringify(expression);

function headKey(head: Expression | undefined): string {
  if (head === undefined) return '';
  return head.kind === 'text' ? `text ${head.text.codePointAt(0)}` : expressionKey(head);
}

const partsOf = (expression: Expression): readonly Expression[] =>
  expression.kind === 'sequence' ? expression.parts : [expression];
