/** Inclusive. */
export type CodePointRange = readonly [low: number, high: number];

/** Sorted, disjoint, not touching. */
export type CodePointSet = readonly CodePointRange[];

export const CODE_POINT_MAX = 0x10_ffff;

/** Sorts, merges what overlaps or touches. */
export function codePointSet(ranges: Iterable<CodePointRange>): CodePointSet {
  const sorted = [...ranges].filter(([low, high]) => low <= high).sort((left, right) => left[0] - right[0]);
  const merged: [number, number][] = [];
  for (const [low, high] of sorted) {
    const last = merged.at(-1);
    if (last !== undefined && low <= last[1] + 1) last[1] = Math.max(last[1], high);
    else merged.push([low, high]);
  }
  return merged;
}

/** What of `all` is not in `set`. */
export function without(all: CodePointSet, set: CodePointSet): CodePointSet {
  const rest: CodePointRange[] = [];
  for (const [low, high] of all) {
    let from = low;
    for (const [cutLow, cutHigh] of set) {
      if (cutHigh < from || cutLow > high) continue;
      if (cutLow > from) rest.push([from, cutLow - 1]);
      from = cutHigh + 1;
    }
    if (from <= high) rest.push([from, high]);
  }
  return codePointSet(rest);
}

export function common(left: CodePointSet, right: CodePointSet): CodePointSet {
  return without(left, without([[0, CODE_POINT_MAX]], right));
}

export function contains(set: CodePointSet, codePoint: number): boolean {
  return set.some(([low, high]) => low <= codePoint && codePoint <= high);
}

/** Every character of a text, as a set. */
export function charactersOf(text: string): CodePointSet {
  return codePointSet(Array.from(text, (character) => [at(character), at(character)] as const));
}

/** Unicode scalar values: UTF-8 cannot carry half of a surrogate pair. */
export const SCALAR_VALUES: CodePointSet = [
  [0, 0xd7ff],
  [0xe000, CODE_POINT_MAX],
];

const at = (character: string) => character.codePointAt(0) ?? 0;
