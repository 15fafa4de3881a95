import { test } from 'node:test';
import { checkKeywordSoups, checkSchemaCases } from '../../../tests/fixtures/schema-case-run.ts';

test('1,000 schemas: every text of the grammar is valid for ajv, every valid sample is a text of it', () => {
  checkSchemaCases(1_000, 20_261_122);
});

test('keywords thrown together are refused by path, or every text of the grammar is valid', () => {
  checkKeywordSoups(400, 20_261_122);
});
