import { choice, type Expression, never, sequence, text } from './expression.ts';
import type { GrammarRules } from './grammar-rules.ts';
import type { Located } from './schema-document.ts';
import { type ArrayFacts, type Facts, itemSchemas } from './schema-facts.ts';
import { schemaRefusal } from './schema-refusal.ts';

/** @param valueGrammar the grammar of a value that all schemas describe */
export function arrayGrammar(
  rules: GrammarRules,
  { array, path }: Facts,
  valueGrammar: (schemas: readonly Located[]) => Expression,
): Expression {
  const { min } = array;
  const positions = namedPositions(array);
  const max = longest(array, positions);
  if (array.uniquePath !== undefined && (max === undefined || max > 1)) {
    throw schemaRefusal(array.uniquePath, 'that items differ cannot be enforced while they are written');
  }
  if (max !== undefined && max < min) {
    return never(path, `at least ${min} items, and only ${max} can be there`);
  }
  const item = (index: number) => valueGrammar(itemSchemas(array, index));
  const isFull = (index: number) => max !== undefined && index >= max;
  /** What follows `index` items: the bracket, or one more with what follows that. */
  const after = (index: number, following: Expression): Expression => {
    if (isFull(index)) return text(']');
    const further = sequence(text(index === 0 ? '' : ','), item(index), following);
    return index < min ? further : choice([text(']'), further]);
  };
  const first = Math.max(positions, 1);
  const left = max === undefined ? undefined : Math.max(max - first, 0);
  const others = isFull(first)
    ? text('')
    : rules.counted('items', sequence(text(','), item(first)), Math.max(min - first, 0), left);
  let following = sequence(others, text(']'));
  for (let index = first - 1; index >= 0; index--) {
    following = after(index, rules.define('items', following));
  }
  return sequence(text('['), following);
}

/** Positions that have a schema of their own. */
const namedPositions = ({ shapes }: ArrayFacts) =>
  shapes.reduce((most, { prefix }) => Math.max(most, prefix.length), 0);

/**
 * The most items: `maxItems`, the first position where nothing may stand, and the end of a tuple. Of what may follow
 * a tuple nothing is said, so nothing follows, unless `minItems` demands it.
 */
function longest(array: ArrayFacts, positions: number): number | undefined {
  const isTuple =
    array.shapes.length > 0 && array.shapes.every(({ prefix, rest }) => prefix.length > 0 && !rest);
  const lengths = [array.max, isTuple && array.min <= positions ? positions : undefined];
  for (let index = 0; index <= positions; index++) {
    if (itemSchemas(array, index).some(({ schema }) => schema === false)) lengths.push(index);
  }
  const known = lengths.filter((length) => length !== undefined);
  return known.length === 0 ? undefined : known.reduce((least, length) => Math.min(least, length));
}
