import assert from 'node:assert/strict';
import { test } from 'node:test';
import { encodePathRule, encodeRuleset, handledFileRights } from './landlock-rules.ts';

/** ABI → length of the structure, file rights, network rights, scopes; from the kernel's own documentation. */
const RULESETS = [
  [1, 8, 0x1fffn],
  [2, 8, 0x3fffn],
  [3, 8, 0x7fffn],
  [4, 16, 0x7fffn, 3n],
  [5, 16, 0xffffn, 3n],
  [6, 24, 0xffffn, 3n, 3n],
  [7, 24, 0xffffn, 3n, 3n],
  [9, 24, 0x1ffffn, 3n, 3n],
  [10, 24, 0x1ffffn, 15n, 3n],
  [99, 24, 0x1ffffn, 15n, 3n],
] as const;

test('a ruleset handles all that its ABI knows, and nothing that it does not', () => {
  for (const [abi, length, ...words] of RULESETS) {
    const bytes = encodeRuleset(abi);
    assert.equal(bytes.length, length, `ABI ${abi}`);
    assert.deepEqual(
      words.map((_, index) => bytes.readBigUInt64LE(index * 8)),
      words,
      `ABI ${abi}`,
    );
  }
});

test('a rule grants no right that the ruleset does not handle, and none on a file that only folders have', () => {
  const rightsOf = (...parameters: Parameters<typeof encodePathRule>): bigint => {
    const bytes = encodePathRule(...parameters);
    assert.equal(bytes.length, 12);
    assert.equal(bytes.readInt32LE(8), 17);
    return bytes.readBigUInt64LE(0);
  };
  assert.equal(rightsOf(7, 'read', true, 17), 0b1100n);
  assert.equal(rightsOf(7, 'read', false, 17), 0b0100n);
  assert.equal(rightsOf(7, 'execute', false, 17), 0b0101n);
  assert.equal(rightsOf(7, 'device', false, 17), 0b0110n);
  assert.equal(rightsOf(7, 'write', true, 17), 0x412en);
  assert.equal(rightsOf(1, 'write', true, 17), 0x12en);
  assert.equal(rightsOf(7, 'write', false, 17), 0x4006n);
  assert.equal(rightsOf(1, 'write', true, 17) & ~handledFileRights(1), 0n);
});
