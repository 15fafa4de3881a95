import { test } from 'node:test';
import { checkKeywordSoups, checkSchemaCases } from '../../../tests/fixtures/schema-case-run.ts';

test('2,000 schemas with another seed against ajv', () => {
  checkSchemaCases(2_000, 1);
});

test('4,000 times keywords thrown together', () => {
  checkKeywordSoups(4_000, 2);
});
