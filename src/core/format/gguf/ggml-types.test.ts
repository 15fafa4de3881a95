import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  llamaLibraryMissing,
  nativeFileTypeName,
  nativeTensorTypes,
} from '../../../../tests/fixtures/llama-library.ts';
import { skipUnlessCi } from '../../../../tests/fixtures/skip.ts';
import { fileTypeName, GGML_TYPES, ggmlType } from './ggml-types.ts';

const skip = skipUnlessCi(llamaLibraryMissing());
/** `GGML_TYPE_COUNT` of v0.5.0; behind it the library reads past its table. */
const TYPE_COUNT = 43;

test('the table of tensor types is that of the library', { skip }, () => {
  const native = nativeTensorTypes(Array.from({ length: TYPE_COUNT }, (_, number) => number));
  assert.deepEqual(
    [...GGML_TYPES.values()],
    native.filter(({ blockElements }) => blockElements > 0),
  );
});

test('the table of file types is that of the library', { skip }, () => {
  for (let number = 0; number < 100; number++) {
    const native = nativeFileTypeName(number);
    assert.equal(fileTypeName(number), native.startsWith('unknown') ? undefined : shortName(native), native);
  }
});

/** "Q4_K - Medium" → "Q4_K_M", "IQ2_S - 2.5 bpw" → "IQ2_S". */
function shortName(native: string): string {
  const special: Record<string, string> = {
    'all F32': 'F32',
    'Q2_K - Medium': 'Q2_K',
    'IQ3_S mix - 3.66 bpw': 'IQ3_M',
    'MXFP4 MoE': 'MXFP4_MOE',
  };
  return special[native] ?? native.replace(/ - (\d.*)$/, '').replace(/ - (S|M|L)[a-z]+$/, '_$1');
}

test('a guessed file type keeps its name', () => {
  assert.equal(fileTypeName(15), 'Q4_K_M');
  assert.equal(fileTypeName(1024 + 15), 'Q4_K_M');
  assert.equal(fileTypeName(2048 + 15), undefined);
  assert.equal(fileTypeName(-1), undefined);
});

test('types are found by name', () => {
  assert.equal(ggmlType('q4_0').number, 2);
  assert.throws(() => ggmlType('q4_9'), TypeError);
});
