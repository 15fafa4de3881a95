import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FreeholdError } from '../../core/base/errors.ts';
import { parseAdapterOption } from './adapters.ts';

test('MODEL+NAME=FILE, where the file may have any name', () => {
  assert.deepEqual(parseAdapterOption('triage+ward7=ward7.gguf'), {
    base: 'triage',
    name: 'ward7',
    file: 'ward7.gguf',
  });
  assert.deepEqual(parseAdapterOption('acme/triage@1.4.0#q4_0+ward-7=/data/a=b+c.gguf'), {
    base: 'acme/triage@1.4.0#q4_0',
    name: 'ward-7',
    file: '/data/a=b+c.gguf',
  });
});

test('whatever is none is refused', () => {
  for (const [text, code] of [
    ['', 'USAGE'],
    ['triage', 'USAGE'],
    ['triage=a.gguf', 'USAGE'],
    ['+ward7=a.gguf', 'USAGE'],
    ['triage+ward7', 'USAGE'],
    ['triage+ward7=', 'USAGE'],
    ['a=triage+ward7', 'USAGE'],
    ['triage+=a.gguf', 'NAME_INVALID'],
    ['triage+Ward7=a.gguf', 'NAME_INVALID'],
    ['triage+../x=a.gguf', 'NAME_INVALID'],
    [`triage+${'a'.repeat(49)}=a.gguf`, 'NAME_INVALID'],
  ] as const) {
    assert.throws(
      () => parseAdapterOption(text),
      (error: unknown) => error instanceof FreeholdError && error.code === code,
      text,
    );
  }
});
