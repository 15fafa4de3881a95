import { test } from 'node:test';
import { checkKeywordSoups, checkSchemaCases } from '../../../tests/fixtures/schema-case-run.ts';

test('10,000 schemas against ajv', () => {
  checkSchemaCases(10_000, 1);
});

test('20,000 times keywords thrown together', () => {
  checkKeywordSoups(20_000, 2);
});
