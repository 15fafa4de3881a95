import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { BUCKETS, rolloutBucket } from './rollout.ts';

const ID = fc.stringMatching(/^[0-9a-f]{32}$/);
const idOf = (number: number) => number.toString(16).padStart(32, '0');

test('a device keeps its bucket, and each is one of a hundred', () => {
  fc.assert(
    fc.property(ID, fc.string(), fc.string(), (id, name, version) => {
      const bucket = rolloutBucket(id, name, version);
      assert.equal(bucket, rolloutBucket(id, name, version));
      assert.ok(Number.isInteger(bucket) && bucket >= 0 && bucket < BUCKETS);
    }),
  );
});

test('whoever has a version keeps it when the percentage grows', () => {
  const percent = fc.integer({ min: 0, max: 100 });
  fc.assert(
    fc.property(ID, percent, percent, (id, one, other) => {
      const has = (share: number) => rolloutBucket(id, 'acme/triage', '1.4.0') < share;
      if (one <= other && has(one)) assert.ok(has(other));
      assert.ok(has(100));
      assert.ok(!has(0));
    }),
  );
});

test('ten percent are ten percent of many devices', () => {
  const devices = 50_000;
  const counts = new Array<number>(BUCKETS).fill(0);
  for (let device = 0; device < devices; device++) {
    const bucket = rolloutBucket(idOf(device), 'acme/triage', '1.4.0');
    counts[bucket] = (counts[bucket] ?? 0) + 1;
  }
  // Each count is binomial with a deviation of 22: five of them leave one wrong alarm in 17,000 runs of other ids.
  for (const count of counts) assert.ok(Math.abs(count - devices / BUCKETS) < 112, `${count}`);
});

test('another version, or another package, has another order', () => {
  const pairs: readonly (readonly [string, string])[] = [
    ['acme/triage', '1.5.0'],
    ['acme/other', '1.4.0'],
  ];
  for (const [name, version] of pairs) {
    let both = 0;
    let first = 0;
    for (let device = 0; device < 20_000; device++) {
      if (rolloutBucket(idOf(device), 'acme/triage', '1.4.0') >= 10) continue;
      first++;
      if (rolloutBucket(idOf(device), name, version) < 10) both++;
    }
    // Of those who go first once, a tenth goes first again.
    assert.ok(both / first > 0.07 && both / first < 0.13, `${both} of ${first}`);
  }
});
