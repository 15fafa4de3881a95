/** Longer words are not compared: the distance costs the product of both lengths, and nobody mistypes that much. */
const WORD_CHARACTERS_MAX = 100;

/**
 * The candidate that a person most likely meant: one that `word` begins (or that begins `word`), else the nearest one
 * by edits, if at most a third of its characters differ.
 */
export function nearestName(word: string, candidates: Iterable<string>): string | undefined {
  if (word.length === 0 || word.length > WORD_CHARACTERS_MAX) return undefined;
  const wanted = word.toLowerCase();
  let best: { name: string; distance: number } | undefined;
  for (const name of candidates) {
    if (name.length === 0 || name.length > WORD_CHARACTERS_MAX) continue;
    const distance = misspelling(wanted, name.toLowerCase());
    if (distance !== undefined && (best === undefined || distance < best.distance)) best = { name, distance };
  }
  return best?.name;
}

/** `; did you mean "x"?`, or nothing: to be put behind a message. */
export function suggestion(word: string, candidates: Iterable<string>): string {
  const name = nearestName(word, candidates);
  return name === undefined ? '' : `; did you mean ${JSON.stringify(name)}?`;
}

/** Undefined when the two words are too different. A beginning counts as half an edit, before any misspelling. */
function misspelling(word: string, name: string): number | undefined {
  const isBeginning =
    word.length >= 3 && name.length >= 3 && (name.startsWith(word) || word.startsWith(name));
  const distance = editDistance(word, name);
  if (isBeginning) return Math.min(distance, 0.5);
  return distance <= Math.max(1, Math.floor(name.length / 3)) ? distance : undefined;
}

/** Insertions, deletions, substitutions and swaps of neighbours (optimal string alignment). */
function editDistance(left: string, right: string): number {
  let beforePrevious: number[] = [];
  let previous = Array.from({ length: right.length + 1 }, (_, column) => column);
  for (let row = 1; row <= left.length; row++) {
    const current = [row];
    for (let column = 1; column <= right.length; column++) {
      const isSame = left[row - 1] === right[column - 1];
      const isSwap = left[row - 1] === right[column - 2] && left[row - 2] === right[column - 1];
      current[column] = Math.min(
        (previous[column] ?? 0) + 1,
        (current[column - 1] ?? 0) + 1,
        (previous[column - 1] ?? 0) + (isSame ? 0 : 1),
        isSwap ? (beforePrevious[column - 2] ?? 0) + 1 : Number.POSITIVE_INFINITY,
      );
    }
    beforePrevious = previous;
    previous = current;
  }
  return previous[right.length] ?? 0;
}
