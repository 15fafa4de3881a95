import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { Digest } from '../../src/core/base/digest.ts';
import { fullReference } from '../../src/surface/app/installed-packages.ts';
import { listKeys, listTrust } from '../../src/surface/app/keys-and-trust.ts';
import { listInstalled } from '../../src/surface/app/package-list.ts';
import { checkStore, collectGarbage } from '../../src/surface/app/store-upkeep.ts';
import { verifyReference } from '../../src/surface/app/verify-package.ts';
import { type CrashGround, type CrashOperation, openHomeAt, retry } from './operations.ts';

const { signal } = new AbortController();

/** What a home's owner would miss if it were gone. */
export interface HomeContent {
  /** Reference, content digest, and whether it is signed. */
  readonly packages: readonly string[];
  readonly keys: readonly string[];
  readonly trust: readonly string[];
  /** Whole files in the cache. An install takes one in and out again. */
  readonly cached: readonly string[];
}

/** Reads a home as the product does; one that is not there is empty, and is not made. */
export async function contentOf(home: string): Promise<HomeContent> {
  if (!fs.existsSync(home)) return { packages: [], keys: [], trust: [], cached: [] };
  const freehold = await openHomeAt(home);
  // What an update has fetched and not put into use yet, nobody misses.
  const listed = (await listInstalled(freehold)).filter(({ held }) => held !== 'candidate');
  const packages = listed.map(
    (item) =>
      `${fullReference(item)} ${item.contentDigest} ${item.isSigned ? 'signed' : 'not signed'} ${item.held ?? ''}`,
  );
  const keys = (await listKeys(freehold)).map(({ name, fingerprint }) => `${name} ${fingerprint}`);
  const trust = (await listTrust(freehold)).map(({ pattern, fingerprint }) => `${pattern} ${fingerprint}`);
  return { packages, keys, trust, cached: cachedFiles(home) };
}

export interface CrashedHome {
  readonly operation: CrashOperation;
  readonly ground: CrashGround;
  /** What may be found as well as `after`, each part by itself; the last is what the operation found. */
  readonly before: readonly HomeContent[];
  readonly after: HomeContent;
  /** Of the home that the crash left. Nothing but this test uses it. */
  readonly home: string;
  /** The operation had reported its end. */
  readonly isAtEnd: boolean;
  /** `after` is how another run of the operation ended. */
  readonly isOtherRun?: boolean;
  /** What its owner does now. */
  readonly next: 'nothing' | 'retry' | 'gc-then-retry';
}

/**
 * What is demanded of a home after a crash: everything in it is as before or as after the operation and whole, and the
 * product's own check agrees; if its owner tries again, the same operation succeeds, and nothing is left that gc does
 * not remove.
 */
export async function verifyCrashedHome(crashed: CrashedHome): Promise<void> {
  const { operation, ground, before, after, home, isAtEnd } = crashed;
  requireWholeCache(home);
  const found = await contentOf(home);
  // Who found that everything was done already wrote nothing, and promised nothing.
  const hasChanged = (part: keyof HomeContent) =>
    JSON.stringify(before.at(-1)?.[part]) !== JSON.stringify(after[part]);
  for (const part of ['packages', 'keys', 'trust'] as const) {
    const allowed = isAtEnd && hasChanged(part) ? [after] : [...before, after];
    const known = before.flatMap((content) => content[part]);
    const shown = (lines: readonly string[]) =>
      // Keys that another run of the operation made have other fingerprints.
      crashed.isOtherRun === true && part !== 'packages'
        ? lines.map((line) => (known.includes(line) ? line : line.split(' ')[0]))
        : lines;
    requireOneOf(
      part,
      shown(found[part]),
      allowed.map((content) => shown(content[part])),
    );
  }
  if (isAtEnd && hasChanged('cached'))
    for (const file of after.cached) assert.ok(found.cached.includes(file), `${file} is not in the cache`);
  if (fs.existsSync(home) && operation.repairs !== true) await verifySound(home);
  await operation.verify?.(home, isAtEnd);
  if (crashed.next === 'nothing') return;
  if (crashed.next === 'gc-then-retry' && fs.existsSync(home))
    await collectGarbage(await openHomeAt(home), false);

  await retry(operation, ground, home);
  const repeated = await contentOf(home);
  for (const part of ['packages', 'keys', 'trust'] as const) {
    // A key that was lost with a crash is made anew: another one of its name.
    const shown = part === 'packages' ? (lines: readonly string[]) => lines : namesOf;
    // What only a killed operation before this one would have changed, this one need not.
    const allowed = hasChanged(part) ? [after] : [found, after];
    requireOneOf(
      `${part} after the second run`,
      shown(repeated[part]),
      allowed.map((content) => shown(content[part])),
    );
  }
  for (const kept of found.keys) assert.ok(repeated.keys.includes(kept), `${kept} is gone`);

  await collectGarbage(await openHomeAt(home), false);
  const remarks = await verifySound(home);
  assert.deepEqual(
    remarks.filter((remark) => remark.includes('freehold gc')),
    [],
    'left after gc',
  );
  assert.deepEqual(strangeFiles(home), [], 'left after gc');
  await verifySigned(home);
  await operation.verify?.(home, true);
  requireWholeCache(home);
}

/** Hashes every blob of every closure. @returns the remarks of the product's check */
async function verifySound(home: string): Promise<readonly string[]> {
  const { problems, remarks } = await checkStore(await openHomeAt(home), signal);
  assert.deepEqual(problems, []);
  return remarks;
}

/** As `freehold verify` does, whatever check says. */
async function verifySigned(home: string): Promise<void> {
  const freehold = await openHomeAt(home);
  const signed = (await listInstalled(freehold)).filter(({ isSigned }) => isSigned);
  for (const item of signed) await verifyReference(freehold, fullReference(item), signal);
}

function requireOneOf(
  part: string,
  found: readonly unknown[],
  allowed: readonly (readonly unknown[])[],
): void {
  if (allowed.some((each) => JSON.stringify(each) === JSON.stringify(found))) return;
  assert.deepEqual(found, allowed.at(-1), `${part}: neither as before nor as after`);
}

const namesOf = (lines: readonly string[]) => [...new Set(lines.map((line) => line.split(' ')[0]))].sort();

/** A file of the cache has its name only with the right bytes. */
function requireWholeCache(home: string): void {
  for (const name of cachedFiles(home)) {
    const bytes = fs.readFileSync(path.join(home, 'cache', name));
    assert.equal(Digest.hex(Digest.of(bytes)), name, 'a file of the cache');
  }
}

function cachedFiles(home: string): string[] {
  const cache = path.join(home, 'cache');
  if (!fs.existsSync(cache)) return [];
  return fs.readdirSync(cache).filter((name) => /^[0-9a-f]{64}$/.test(name));
}

/** Every file and folder that a home has a reason to hold when nothing runs. */
const KNOWN: readonly RegExp[] = [
  /^(home\.lock|trust\.yaml|keys|store|cache)$/,
  /^keys\/([a-z0-9]+\.(key|pub)|home\.grants)$/,
  /^(channels|published|channels\.yaml|(device|declined)\.json|(channels|published)\/[a-z0-9%.F]+\.json)$/,
  /^cache\/([0-9a-f]{64}|[0-9a-f]{64}\.lock|[a-z0-9.-]+\.lock)$/,
  /^store\/(oci-layout|index\.json|blobs|tmp|partial|locks|verified)$/,
  /^store\/blobs\/sha256(\/[0-9a-f]{64})?$/,
  /^store\/locks\/(lease|index)\.lock$/,
  /^store\/verified\/[0-9a-f]{64}\.json$/,
];

export function strangeFiles(home: string): string[] {
  return (fs.readdirSync(home, { recursive: true }) as string[]).filter(
    (name) => !KNOWN.some((pattern) => pattern.test(name)),
  );
}
