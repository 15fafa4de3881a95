import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { conformancePage } from './fuzz/conformance-page.ts';
import { DIFFERENCE_CLASSES } from './fuzz/difference-classes.ts';

const PAGE = path.join(path.dirname(import.meta.dirname), 'docs', 'GGUF-CONFORMANCE.md');

test('docs/GGUF-CONFORMANCE.md lists every class of differences; `npm run docs` writes it', () => {
  const page = readFileSync(PAGE, 'utf8');
  assert.equal(page, conformancePage(page));
  for (const { name } of DIFFERENCE_CLASSES) assert.ok(page.includes(`| ${name} |`), name);
});

test('no class has the name of another with the same reader and direction', () => {
  const names = DIFFERENCE_CLASSES.map(({ against, kind, name }) => `${against} ${kind} ${name}`);
  assert.equal(new Set(names).size, names.length);
});
