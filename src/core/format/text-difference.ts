/** A line that only one of two texts has, or that both have next to such a line. */
export interface LineDifference {
  readonly kind: 'same' | 'removed' | 'added';
  readonly text: string;
}

/** The work grows with the product of both numbers of changed lines; templates have some hundred lines. */
const LINES_MAX = 2000;
/** Lines around a change, as `diff -u` shows them. */
const CONTEXT_LINES = 2;

/**
 * The lines in which two texts differ, with the lines around them: the fewest removed and added lines (longest common
 * subsequence). Texts that are too long for that are shown as removed and added in whole.
 */
export function lineDifferences(before: string, after: string): LineDifference[] {
  if (before === after) return [];
  const left = before === '' ? [] : before.split('\n');
  const right = after === '' ? [] : after.split('\n');
  let start = 0;
  while (start < left.length && start < right.length && left[start] === right[start]) start++;
  let end = 0;
  while (
    end < left.length - start &&
    end < right.length - start &&
    left[left.length - 1 - end] === right[right.length - 1 - end]
  ) {
    end++;
  }
  const middle = changedLines(left.slice(start, left.length - end), right.slice(start, right.length - end));
  const same = (lines: readonly string[]) => lines.map((text): LineDifference => ({ kind: 'same', text }));
  return nearChanges([...same(left.slice(0, start)), ...middle, ...same(left.slice(left.length - end))]);
}

function changedLines(left: readonly string[], right: readonly string[]): LineDifference[] {
  if (left.length > LINES_MAX || right.length > LINES_MAX) {
    return [
      ...left.map((text): LineDifference => ({ kind: 'removed', text })),
      ...right.map((text): LineDifference => ({ kind: 'added', text })),
    ];
  }
  const width = right.length + 1;
  // Lines in common from (row, column) to both ends.
  const common = new Uint16Array((left.length + 1) * width);
  const at = (row: number, column: number) => common[row * width + column] ?? 0;
  for (let row = left.length - 1; row >= 0; row--) {
    for (let column = right.length - 1; column >= 0; column--) {
      common[row * width + column] =
        left[row] === right[column]
          ? at(row + 1, column + 1) + 1
          : Math.max(at(row + 1, column), at(row, column + 1));
    }
  }
  const lines: LineDifference[] = [];
  let row = 0;
  let column = 0;
  while (row < left.length || column < right.length) {
    const removed = left[row];
    const added = right[column];
    if (removed !== undefined && removed === added) {
      lines.push({ kind: 'same', text: removed });
      row++;
      column++;
    } else if (removed !== undefined && (added === undefined || at(row + 1, column) >= at(row, column + 1))) {
      lines.push({ kind: 'removed', text: removed });
      row++;
    } else {
      lines.push({ kind: 'added', text: added ?? '' });
      column++;
    }
  }
  return lines;
}

function nearChanges(lines: readonly LineDifference[]): LineDifference[] {
  const near = new Set<number>();
  lines.forEach(({ kind }, index) => {
    if (kind === 'same') return;
    for (let other = index - CONTEXT_LINES; other <= index + CONTEXT_LINES; other++) near.add(other);
  });
  return lines.filter((_, index) => near.has(index));
}
