import type { CodePointSet } from './code-points.ts';
import { type Expression, isEmpty } from './expression.ts';

/** One expression in llama.cpp's notation. */
export function gbnfText(expression: Expression): string {
  switch (expression.kind) {
    case 'text':
      return `"${Array.from(expression.text, literalCharacter).join('')}"`;
    case 'class':
      return classText(expression.set);
    case 'rule':
      return expression.name;
    case 'sequence':
      return expression.parts.length === 0
        ? '""'
        : expression.parts
            .map((part) =>
              part.kind === 'choice' && !part.options.some(isEmpty) ? bracketed(part) : gbnfText(part),
            )
            .join(' ');
    case 'choice':
      return choiceText(expression.options);
    case 'repeat':
      return `${repeatedText(expression.body)}${quantifier(expression.min, expression.max)}`;
    case 'never':
      throw new Error(`an impossible part was left in the grammar: ${expression.reason}`);
  }
}

function choiceText(options: readonly Expression[]): string {
  const filled = options.filter((option) => !isEmpty(option));
  const texts = filled.map(gbnfText).join(' | ');
  return filled.length === options.length ? texts : `(${texts})?`;
}

const bracketed = (expression: Expression) => `(${gbnfText(expression)})`;

function repeatedText(body: Expression): string {
  return body.kind === 'choice' || body.kind === 'sequence' || body.kind === 'repeat'
    ? bracketed(body)
    : gbnfText(body);
}

function quantifier(min: number, max: number | undefined): string {
  if (max === undefined) return min === 0 ? '*' : min === 1 ? '+' : `{${min},}`;
  if (min === max) return `{${min}}`;
  return min === 0 && max === 1 ? '?' : `{${min},${max}}`;
}

function classText(set: CodePointSet): string {
  const ranges = set.map(([low, high]) =>
    low === high ? classCharacter(low) : `${classCharacter(low)}-${classCharacter(high)}`,
  );
  return `[${ranges.join('')}]`;
}

function literalCharacter(character: string): string {
  if (character === '"' || character === '\\') return `\\${character}`;
  const codePoint = character.codePointAt(0) ?? 0;
  return codePoint < 0x20 || codePoint > 0x7e ? escaped(codePoint) : character;
}

/** Letters, digits and blanks stay; of the rest some mean something in a class. */
function classCharacter(codePoint: number): string {
  const character = String.fromCodePoint(codePoint);
  return /^[0-9A-Za-z ]$/.test(character) ? character : escaped(codePoint);
}

function escaped(codePoint: number): string {
  const digits = codePoint.toString(16).toUpperCase();
  if (codePoint <= 0xff) return `\\x${digits.padStart(2, '0')}`;
  return codePoint <= 0xffff ? `\\u${digits.padStart(4, '0')}` : `\\U${digits.padStart(8, '0')}`;
}
