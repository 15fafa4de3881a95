import { ERROR_TABLE, type ErrorRow } from '../src/core/base/error-table.ts';

const EXIT_MEANING: Readonly<Record<number, string>> = {
  1: 'a check failed',
  2: 'wrong usage or configuration',
  3: 'not found',
  4: 'integrity or signature',
  5: 'license',
  6: 'network',
  7: 'busy or resources',
  70: 'our bug',
  130: 'cancelled',
};

/** The text of docs/ERRORS.md, a pure function of the error table. */
export function errorsPage(): string {
  const lines = [
    '# Errors',
    '',
    'Generated from `src/core/base/error-table.ts` by `npm run docs`; a test keeps the two equal.',
    '',
    'Every error has a stable code. The command line prints `error: MESSAGE [CODE]`, the cause and a hint, and exits',
    'with the number below; with `--json` the same stands in one object. HTTP answers carry the status below and the',
    "code in `error.code` (in lower case, or OpenAI's own code where there is one).",
    '',
  ];
  const rows = Object.entries(ERROR_TABLE) as [string, ErrorRow][];
  const exits = [...new Set(rows.map(([, row]) => row.exit))].sort((left, right) => left - right);
  for (const exit of exits) {
    lines.push(
      `## Exit ${exit}: ${EXIT_MEANING[exit] ?? ''}`,
      '',
      '| code | HTTP | when | hint |',
      '|---|---|---|---|',
    );
    for (const [code, row] of rows.filter(([, candidate]) => candidate.exit === exit)) {
      const retry = row.temporary === true ? ' (trying again helps)' : '';
      lines.push(`| \`${code}\` | ${row.http} | ${row.doc}${retry} | ${row.hint.replaceAll('|', '\\|')} |`);
    }
    lines.push('');
  }
  return `${lines.join('\n').trimEnd()}\n`;
}
