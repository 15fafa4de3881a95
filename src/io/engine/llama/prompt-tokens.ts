import type { ContentMarks } from './content-marks.ts';
import { cutAtControls } from './content-marks.ts';
import type { Vocabulary } from './vocabulary.ts';

type Tokenizer = Pick<Vocabulary, 'tokenize' | 'controls' | 'prependedBos'>;

/**
 * Tokens of a rendered chat. The template's own markup becomes control tokens, what users wrote never does. Where no
 * message spells a control token the result is the tokenisation of the whole text.
 */
export function tokenizeRendered(vocabulary: Tokenizer, marks: ContentMarks, rendered: string): number[] {
  if (!marks.forgesControl(rendered)) {
    return withBos(vocabulary, vocabulary.tokenize(marks.unmark(rendered), true));
  }
  const tokens: number[] = [];
  for (const segment of cutAtControls(rendered, [...vocabulary.controls.keys()])) {
    const control = segment.kind === 'control' ? vocabulary.controls.get(segment.text) : undefined;
    if (control === undefined) tokens.push(...tokenizePlain(vocabulary, marks.unmark(segment.text)));
    else tokens.push(control);
  }
  return withBos(vocabulary, tokens);
}

/** Tokens of text that a user wrote: no control tokens, whatever it says. */
export function tokenizeText(vocabulary: Tokenizer, text: string): number[] {
  return withBos(vocabulary, tokenizePlain(vocabulary, text));
}

/** One BOS where the model wants one; a template that wrote it already does not get a second. */
export function withBos(vocabulary: Tokenizer, tokens: number[]): number[] {
  const bos = vocabulary.prependedBos;
  return bos === undefined || tokens[0] === bos ? tokens : [bos, ...tokens];
}

/**
 * llama.cpp does not look for control tokens here, but a SentencePiece merge can still end in one (`</` + `s>`), and
 * user-defined ones it always finds. Such a text is cut inside each spelled-out control token.
 */
function tokenizePlain(vocabulary: Tokenizer, text: string): number[] {
  const ids = new Set(vocabulary.controls.values());
  const tokens = vocabulary.tokenize(text, false);
  if (!tokens.some((token) => ids.has(token))) return tokens;
  const parts = cutInside(text, [...vocabulary.controls.keys()]);
  // What is still a control token now stands for characters that the vocabulary does not have: `<unk>`.
  return parts.flatMap((part) => vocabulary.tokenize(part, false));
}

/** Cuts behind the first character of every occurrence of one of `needles`, overlapping ones too. */
function cutInside(text: string, needles: readonly string[]): string[] {
  const cuts = new Set<number>();
  for (const needle of needles) {
    for (let at = text.indexOf(needle); at >= 0; at = text.indexOf(needle, at + 1)) cuts.add(at + 1);
  }
  const borders = [0, ...[...cuts].sort((left, right) => left - right), text.length];
  return borders
    .slice(1)
    .map((end, index) => text.slice(borders[index], end))
    .filter((part) => part !== '');
}
