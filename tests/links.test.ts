import assert from 'node:assert/strict';
import { existsSync, globSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';

const ROOT = path.dirname(import.meta.dirname);
const OUTSIDE = new Set(['node_modules', 'dist', 'coverage']);

const pages = globSync('**/*.md', { cwd: ROOT, exclude: (name) => OUTSIDE.has(path.basename(name)) }).sort();

/** Text without code, in which brackets are no links and `#` no heading. */
function prose(markdown: string): string {
  return markdown.replace(/^(```|~~~)[\s\S]*?^\1/gm, '');
}

/** Targets of `[text](target)` and `[label]: target`. */
function linksOf(markdown: string): string[] {
  const text = prose(markdown).replace(/`[^`\n]*`/g, '');
  return [...text.matchAll(/\]\(\s*<?([^)\s>]+)|^\[[^\]]+\]:\s*<?(\S+?)>?$/gm)].map(
    (match) => match[1] ?? match[2] ?? '',
  );
}

/** Anchors as GitHub and npm make them: lower case, punctuation gone, blanks to dashes, a number for each repetition. */
function anchorsOf(markdown: string): Set<string> {
  const anchors = new Set<string>();
  for (const [, heading = ''] of prose(markdown).matchAll(/^#{1,6}\s+(.+?)\s*#*$/gm)) {
    const text = heading.replace(/\[([^\]]*)\]\([^)]*\)/g, '$1').toLowerCase();
    const slug = text.replace(/[^\p{L}\p{N}\s_-]/gu, '').replace(/\s/g, '-');
    let anchor = slug;
    for (let number = 1; anchors.has(anchor); number++) anchor = `${slug}-${number}`;
    anchors.add(anchor);
  }
  return anchors;
}

/** Why a link of a page leads nowhere; undefined when it is fine or leads to another site. */
function faultOf(page: string, markdown: string, link: string): string | undefined {
  if (/^[a-z][a-z0-9+.-]*:/i.test(link)) return undefined;
  const [target = '', anchor] = decodeURIComponent(link).split('#');
  const file = target === '' ? page : path.join(path.dirname(page), target);
  if (file.startsWith('..') || path.isAbsolute(target)) return 'leaves the repository';
  if (!existsSync(path.join(ROOT, file))) return 'no such file';
  if (anchor === undefined || !file.endsWith('.md')) return undefined;
  const text = file === page ? markdown : readFileSync(path.join(ROOT, file), 'utf8');
  return anchorsOf(text).has(anchor) ? undefined : 'no such heading';
}

test('every relative link of every page leads to a file and a heading that are there', () => {
  assert.ok(pages.length >= 10, `${pages.length} pages`);
  const broken: string[] = [];
  let links = 0;
  for (const page of pages) {
    const markdown = readFileSync(path.join(ROOT, page), 'utf8');
    for (const link of linksOf(markdown)) {
      links++;
      const fault = faultOf(page, markdown, link);
      if (fault !== undefined) broken.push(`${page}: ${link}: ${fault}`);
    }
  }
  assert.deepEqual(broken, []);
  assert.ok(links > 10, `${links} links`);
});

test('a file or folder of ours that a page names is there', () => {
  const names = new Set(
    globSync('{src,tests,scripts}/**/*.ts', { cwd: ROOT }).map((file) => path.basename(file)),
  );
  const missing: string[] = [];
  for (const page of pages) {
    const text = prose(readFileSync(path.join(ROOT, page), 'utf8'));
    for (const [, name = ''] of text.matchAll(/`([\w./-]+)`/g)) {
      const isPath = /^(src|tests|scripts|bench|spec|docs|bin)\//.test(name);
      const isSource = /^[\w-]+(\.\w+)*\.ts$/.test(name);
      const isThere = isPath ? existsSync(path.join(ROOT, name)) : !isSource || names.has(name);
      if (!isThere) missing.push(`${page}: ${name}`);
    }
  }
  assert.deepEqual(missing, []);
});

test('a broken link, a broken anchor and a way out would be noticed', () => {
  const page = '# One `two`: *three*!\n\n## Same\n\n## Same\n\n```\n[no](nowhere.md)\n# no\n```\n';
  assert.deepEqual([...anchorsOf(page)], ['one-two-three', 'same', 'same-1']);
  assert.deepEqual(linksOf(`${page}[a](b.md#c) and \`[x](y)\` [d]( <e.md> )\n[f]: g.md\n`), [
    'b.md#c',
    'e.md',
    'g.md',
  ]);
  assert.equal(faultOf('docs/API.md', page, '#same-1'), undefined);
  assert.equal(faultOf('docs/API.md', page, '#same-2'), 'no such heading');
  assert.equal(faultOf('docs/API.md', page, 'NOWHERE.md'), 'no such file');
  assert.equal(faultOf('docs/API.md', page, '../../shared'), 'leaves the repository');
  assert.equal(faultOf('docs/API.md', page, 'https://example.org/'), undefined);
});
