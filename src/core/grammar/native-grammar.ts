import { CODE_POINT_MAX, type CodePointSet, codePointSet, without } from './code-points.ts';
import type { GbnfNode, GbnfRules } from './gbnf-parser.ts';

/** Ends an alternative; a character is 1 + its index in `sets`, a rule −1 − its index in `alternatives`. */
export const ALTERNATIVE_END = 0;

/**
 * A grammar as llama.cpp keeps it (`parse_sequence` in llama-grammar.cpp): brackets are rules, and so is each optional
 * repetition. What two equal expressions say stands at two positions.
 */
export interface NativeGrammar {
  readonly codes: readonly number[];
  readonly sets: readonly CodePointSet[];
  /** Of each rule the positions in `codes` at which its alternatives begin. */
  readonly alternatives: readonly (readonly number[])[];
  /** Written rules come first, in this order. */
  readonly names: readonly string[];
}

/** @param rules in which every name has a rule */
export function nativeGrammar(rules: GbnfRules): NativeGrammar {
  const codes: number[] = [];
  const sets: CodePointSet[] = [];
  const characters = new Map<number, number>();
  const names = [...rules.keys()];
  const numbers = new Map(names.map((name, index) => [name, index]));
  const alternatives: number[][] = names.map(() => []);

  function addRule(): number {
    return alternatives.push([]) - 1;
  }

  function addAlternative(rule: number, elements: readonly number[]): void {
    alternatives[rule]?.push(codes.length);
    for (const element of elements) codes.push(element);
    codes.push(ALTERNATIVE_END);
  }

  function setCode(set: CodePointSet): number {
    return sets.push(set);
  }

  function characterCode(character: number): number {
    const code = characters.get(character) ?? setCode([[character, character]]);
    characters.set(character, code);
    return code;
  }

  function elementsOf(node: GbnfNode): readonly number[] {
    switch (node.kind) {
      case 'text':
        return node.characters.map(characterCode);
      case 'class': {
        const set = codePointSet(node.ranges);
        return [setCode(node.isNegated ? without([[0, CODE_POINT_MAX]], set) : set)];
      }
      case 'rule':
        return [-1 - (numbers.get(node.name) ?? 0)];
      case 'repeat':
        return repeated(elementsOf(node.body), node.min, node.max);
      default: {
        const rule = addRule();
        addBody(rule, node);
        return [-1 - rule];
      }
    }
  }

  function repeated(body: readonly number[], min: number, max: number | undefined): readonly number[] {
    const elements: number[] = [];
    for (let count = 0; count < min; count++) for (const element of body) elements.push(element);
    let last: number | undefined;
    for (let left = max === undefined ? 1 : max - min; left > 0; left--) {
      const rule = addRule();
      const next = max === undefined ? rule : last;
      addAlternative(rule, next === undefined ? body : [...body, -1 - next]);
      addAlternative(rule, []);
      last = rule;
    }
    if (last !== undefined) elements.push(-1 - last);
    return elements;
  }

  function addBody(rule: number, body: GbnfNode): void {
    for (const option of body.kind === 'choice' ? body.options : [body]) {
      const parts = option.kind === 'sequence' ? option.parts : [option];
      const elements: number[] = [];
      for (const part of parts) for (const element of elementsOf(part)) elements.push(element);
      addAlternative(rule, elements);
    }
  }

  for (const [rule, { body }] of [...rules.values()].entries()) addBody(rule, body);
  return { codes, sets, alternatives, names };
}
