import type { GbnfNode, GbnfRules } from './gbnf-parser.ts';
import { NATIVE_REPETITIONS_MAX } from './grammar-limits.ts';

export interface NativeCost {
  /** Written ones and those that llama.cpp makes of brackets and repetitions. */
  readonly ruleCount: number;
  readonly elementCount: number;
}

/**
 * What llama.cpp makes of a grammar (`parse_sequence` in llama-grammar.cpp): brackets become rules; `x{m,n}` becomes m
 * copies and n − m rules. It counts the names that came up inside of what is repeated, times the repetitions, and
 * refuses from 2,000 on; so do we, by the same count.
 * @param refuse called for such a repetition; must throw
 */
export function nativeCost(rules: GbnfRules, refuse: (node: GbnfNode, count: number) => never): NativeCost {
  const names = new Set<string>();
  let generatedCount = 0;
  let elementCount = 0;
  const symbolCount = () => names.size + generatedCount;

  /** Elements of the node itself; of what is in brackets only the reference. */
  function elements(node: GbnfNode): number {
    switch (node.kind) {
      case 'text':
        return node.characters.length;
      case 'class':
        return node.ranges.length * 2;
      case 'repeat': {
        const body = elements(node.body);
        const optional = node.max === undefined ? 1 : node.max - node.min;
        elementCount += optional * (body + 3);
        return Math.max(node.min, 1) * body + 1;
      }
      default:
        return 1;
    }
  }

  /** Gives how many rules a repetition of the node counts for. */
  function item(node: GbnfNode): number {
    if (node.kind === 'rule') names.add(node.name);
    if (node.kind === 'sequence' || node.kind === 'choice') {
      const before = symbolCount();
      generatedCount++;
      alternatives(node);
      return Math.max(1, symbolCount() - before);
    }
    if (node.kind !== 'repeat') return 1;
    const inside = item(node.body);
    const { min, max } = node;
    const times = max !== undefined && max > 0 ? max : Math.max(min, 1);
    if (inside * times > NATIVE_REPETITIONS_MAX) refuse(node, inside * times);
    generatedCount += max === undefined ? 1 : max - min;
    return inside * times;
  }

  function alternatives(node: GbnfNode): void {
    for (const option of node.kind === 'choice' ? node.options : [node]) {
      elementCount++;
      for (const part of option.kind === 'sequence' ? option.parts : [option]) {
        item(part);
        elementCount += elements(part);
      }
    }
  }

  for (const { name, body } of rules.values()) {
    names.add(name);
    alternatives(body);
  }
  return { ruleCount: symbolCount(), elementCount };
}
