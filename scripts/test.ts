// Runs one tier of the tests and closes with one line: `N passed, N failed, N skipped`.
// node scripts/test.ts fast|full [FILTER]   FILTER is a part of a file name.
import { spawnSync } from 'node:child_process';
import { appendFileSync, globSync } from 'node:fs';
import path from 'node:path';
import { run } from 'node:test';
import { spec } from 'node:test/reporters';

const ROOT = path.dirname(import.meta.dirname);
/** A file that hangs must not hold the tier: the slowest file takes a fraction of this. */
const TIMEOUT_MS: Readonly<Record<string, number>> = { fast: 5 * 60_000, full: 20 * 60_000 };
/** The development machine and CI have two cores; model tests use one thread each. */
const FILES_AT_ONCE = 2;

const [tier = 'fast', filter = ''] = process.argv.slice(2);
const timeout = TIMEOUT_MS[tier];
if (timeout === undefined) throw new Error(`unknown tier ${tier}: fast or full`);

const counts = { passed: 0, failed: 0, skipped: 0 };
/** Said again at the end, where whoever sees only the end of a long log finds it. */
const failures: string[] = [];
const REASON_CHARACTERS_MAX = 1_500;
if (tier === 'fast' && filter === '') {
  for (const [name, args] of [
    ['types', [path.join('node_modules', 'typescript', 'bin', 'tsc'), '-p', '.']],
    ['lint and format', [path.join('node_modules', '@biomejs', 'biome', 'bin', 'biome'), 'check', '.']],
  ] as const) {
    const result = spawnSync(process.execPath, args, { cwd: ROOT, stdio: 'inherit' });
    counts[result.status === 0 ? 'passed' : 'failed']++;
    if (result.status !== 0) failures.push(name);
    console.log(`${result.status === 0 ? '✔' : '✖'} ${name}`);
  }
}

const files = globSync('{src,tests,examples}/**/*.test.ts', { cwd: ROOT })
  .filter((file) => file.endsWith('.full.test.ts') === (tier === 'full'))
  .filter((file) => file.includes(filter))
  .sort()
  .map((file) => path.join(ROOT, file));
const slow: { name: string; durationMs: number }[] = [];
const stream = run({
  files,
  concurrency: FILES_AT_ONCE,
  timeout,
  execArgv: ['--disable-warning=ExperimentalWarning'],
});
stream.on('test:pass', (event) => {
  if (event.details.type === 'suite') return;
  if (event.skip !== undefined && event.skip !== false) counts.skipped++;
  else counts.passed++;
  slow.push({ name: event.name, durationMs: event.details.duration_ms });
});
stream.on('test:fail', (event) => {
  if (event.details.type === 'suite') return;
  counts.failed++;
  const { error } = event.details;
  const reason = String(error.cause instanceof Error ? error.cause.message : (error.cause ?? error.message));
  const file = event.file === undefined ? '' : `${path.relative(ROOT, event.file)}: `;
  failures.push(`${file}${event.name}\n${reason.slice(0, REASON_CHARACTERS_MAX).replace(/^/gm, '    ')}`);
});
stream.compose(spec).pipe(process.stdout);
await new Promise((resolve) => stream.on('end', resolve));
await new Promise((resolve) => setImmediate(resolve));

slow.sort((left, right) => right.durationMs - left.durationMs);
console.log('\nslowest:');
for (const { name, durationMs } of slow.slice(0, 8))
  console.log(`  ${(durationMs / 1000).toFixed(1)} s  ${name}`);
if (process.env.FREEHOLD_TEST_SUMMARY !== undefined) {
  appendFileSync(process.env.FREEHOLD_TEST_SUMMARY, `${JSON.stringify({ tier, ...counts, failures })}\n`);
}
for (const failure of failures) console.log(`\n✖ ${failure}`);
console.log(`\n${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`);
process.exitCode = counts.failed > 0 || counts.passed === 0 ? 1 : 0;
