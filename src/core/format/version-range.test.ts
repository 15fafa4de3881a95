import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isInRange, newestVersion, parseVersionRange, possibleVersions } from './version-range.ts';

const TAGS = [
  '1.3.9',
  '1.10.0',
  '1.4.2',
  '1.4.10',
  '2.0.0',
  '2.1.0-rc.1',
  'latest',
  '1.4',
  '1.4.2-q4_0',
  'v1.9.0',
  'freehold-channels',
];

test('the newest version of a range, by number and not by text', () => {
  assert.equal(newestVersion(TAGS, '^1.4'), '1.10.0');
  assert.equal(newestVersion(TAGS, '~1.4.2'), '1.4.10');
  assert.equal(newestVersion(TAGS, '>=1.2 <1.4'), '1.3.9');
  assert.equal(newestVersion(TAGS, '1.x || 2.x'), '2.0.0');
  assert.equal(newestVersion(TAGS, '^3'), undefined);
  assert.equal(newestVersion([], '*'), undefined);
});

test('without a range, the newest that is released', () => {
  assert.equal(newestVersion(TAGS, undefined), '2.0.0');
  assert.equal(newestVersion(['1.0.0-rc.1'], undefined), undefined);
});

test('a version before its release only where the range names one of the same release', () => {
  assert.equal(newestVersion(TAGS, '^2'), '2.0.0');
  assert.equal(newestVersion(TAGS, '>=2.1.0-rc.0'), '2.1.0-rc.1');
  assert.equal(isInRange('2.2.0-rc.1', '>=2.1.0-rc.0'), false);
});

test('tags that are no versions do not count, variants of theirs among them', () => {
  assert.deepEqual(possibleVersions(TAGS), ['2.1.0-rc.1', '2.0.0', '1.10.0', '1.4.10', '1.4.2', '1.3.9']);
  // What reads as a version and is the variant "edge": only the document under the tag tells, so it is possible here.
  assert.deepEqual(possibleVersions(['1.0.0-edge', '1.0.0']), ['1.0.0', '1.0.0-edge']);
});

test('what is no range is refused', () => {
  assert.equal(parseVersionRange('^1.4'), '^1.4');
  assert.throws(() => parseVersionRange('^^1'), { code: 'VERSION_INVALID' });
  assert.throws(() => parseVersionRange('>>1 <2'), { code: 'VERSION_INVALID' });
});
