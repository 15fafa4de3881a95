import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';

const ROOT = path.dirname(import.meta.dirname);
const read = (file: string) => readFileSync(path.join(ROOT, file), 'utf8');

test('the table of floors in docs/ARCHITECTURE.md is the one that the architecture test enforces', () => {
  const enforced = [
    ...read('tests/architecture.test.ts').matchAll(/^ {2}'(src\/[\w./-]+)': \[([^\]]*)\]/gm),
  ].map(([, folder, allowed = '']) => [folder, [...allowed.matchAll(/'([^']+)'/g)].map((match) => match[1])]);
  const documented = [
    ...read('docs/ARCHITECTURE.md').matchAll(/^\| \w* ?\| `(src\/[\w./-]+)` \| (.*) \|$/gm),
  ].map(([, folder, allowed = '']) => [folder, [...allowed.matchAll(/`([^`]+)`/g)].map((match) => match[1])]);
  assert.ok(enforced.length > 10);
  assert.deepEqual(documented, enforced);
});
