import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { errorsPage } from '../scripts/errors-page.ts';
import { ERROR_TABLE } from '../src/core/base/error-table.ts';
import { FreeholdError, toFreeholdError } from '../src/core/base/errors.ts';

const ROOT = path.dirname(import.meta.dirname);

test('docs/ERRORS.md is what the table says (npm run docs)', () => {
  assert.equal(readFileSync(path.join(ROOT, 'docs', 'ERRORS.md'), 'utf8'), errorsPage());
});

test('every code of the table is thrown somewhere', () => {
  const sources = globSync('src/**/*.ts', { cwd: ROOT })
    .filter((file) => !file.includes('.test.') && !file.endsWith('error-table.ts'))
    .map((file) => readFileSync(path.join(ROOT, file), 'utf8'))
    .join('\n');
  const unused = Object.keys(ERROR_TABLE).filter((code) => !sources.includes(`'${code}'`));
  assert.deepEqual(unused, []);
});

test('an error carries exit code, status and hint of its row; its own hint wins', () => {
  const plain = new FreeholdError('DIGEST_MISMATCH', 'x');
  assert.equal(plain.exitCode, 4);
  assert.equal(plain.hint, ERROR_TABLE.DIGEST_MISMATCH.hint);
  assert.equal(new FreeholdError('DIGEST_MISMATCH', 'x', { hint: 'mine' }).hint, 'mine');
});

test('whatever else is thrown becomes INTERNAL and keeps its cause', () => {
  const cause = new TypeError('boom');
  const error = toFreeholdError(cause);
  assert.equal(error.code, 'INTERNAL');
  assert.equal(error.cause, cause);
  assert.equal(toFreeholdError(error), error);
});
