import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { FreeholdError } from '../../base/errors.ts';
import { parsePackageName } from '../../base/ids.ts';
import { isOpenLicense, LICENSE_UNKNOWN, licenseExpression } from '../license-expression.ts';
import { chosenLocalName, localPackageName } from '../local-name.ts';
import { licenseSchema } from '../package-descriptor.ts';
import { chooseGguf, ggufCandidates, quantizationIn } from './gguf-choice.ts';

const REPOSITORY = [
  '.gitattributes',
  'README.md',
  'mmproj-F16.gguf',
  'imatrix.gguf',
  'Triage-7B-IQ4_XS.gguf',
  'Triage-7B-Q4_K.gguf',
  'Triage-7B-Q4_K_M.gguf',
  'Triage-7B-UD-Q2_K_XL.gguf',
  'triage-7b-q8_0.gguf',
  'BF16/Triage-7B-BF16-00001-of-00002.gguf',
  'BF16/Triage-7B-BF16-00002-of-00002.gguf',
  'Q6_K/Triage-7B-Q6_K-00001-of-00003.gguf',
];

const choose = (quantization: string) =>
  chooseGguf(REPOSITORY, { kind: 'quantization', quantization }, 'hf://acme/triage').files;

test('a quantization is a whole part of the name, in any case', () => {
  assert.deepEqual(choose('q4_k_m'), ['Triage-7B-Q4_K_M.gguf']);
  assert.deepEqual(choose('Q4_K'), ['Triage-7B-Q4_K.gguf']);
  assert.deepEqual(choose('Q8_0'), ['triage-7b-q8_0.gguf']);
  assert.deepEqual(choose('Q2_K_XL'), ['Triage-7B-UD-Q2_K_XL.gguf']);
  assert.deepEqual(choose('ud-q2_k_xl'), ['Triage-7B-UD-Q2_K_XL.gguf']);
  assert.deepEqual(choose('bf16'), [
    'BF16/Triage-7B-BF16-00001-of-00002.gguf',
    'BF16/Triage-7B-BF16-00002-of-00002.gguf',
  ]);
});

test('parts of a name, projectors and incomplete splits are never taken', () => {
  for (const name of ['Q4_', 'Q4_XS', 'K_M', 'F16', '7B', 'Q6_K', 'imatrix', 'Q4']) {
    assert.throws(
      () => choose(name),
      (error: unknown) => {
        assert.ok(error instanceof FreeholdError);
        assert.equal(error.code, 'NOT_FOUND', name);
        assert.equal(error.hint, 'name one of: BF16, IQ4_XS, Q4_K, Q4_K_M, UD-Q2_K_XL, Q8_0');
        return true;
      },
    );
  }
});

test('the only model, or an error that lists them', () => {
  const only = chooseGguf(['a.gguf', 'mmproj-a.gguf'], { kind: 'only' }, 'x');
  assert.equal(only.path, 'a.gguf');
  assert.throws(() => chooseGguf(REPOSITORY, { kind: 'only' }, 'x'), {
    code: 'REFERENCE_INVALID',
    hint: /BF16, IQ4_XS/,
  });
  assert.throws(() => chooseGguf(['README.md'], { kind: 'only' }, 'x'), { code: 'NOT_FOUND' });
  const same = ['a/x-Q4_0.gguf', 'b/x-Q4_0.gguf'];
  assert.throws(() => chooseGguf(same, { kind: 'quantization', quantization: 'q4_0' }, 'x'), {
    code: 'REFERENCE_INVALID',
    hint: 'name one of: a/x-Q4_0.gguf, b/x-Q4_0.gguf',
  });
});

test('thousands of files that each claim thousands of shards cost nothing', () => {
  const paths = Array.from({ length: 20_000 }, (_, index) => `${index}-00001-of-65535.gguf`);
  const startMs = performance.now();
  assert.deepEqual(ggufCandidates(paths), []);
  assert.ok(performance.now() - startMs < 5_000);
});

test('a file is taken by its path, a shard for all of its model', () => {
  const whole = chooseGguf(
    REPOSITORY,
    { kind: 'file', path: 'BF16/Triage-7B-BF16-00002-of-00002.gguf' },
    'x',
  );
  assert.equal(whole.files.length, 2);
  for (const path of ['none.gguf', 'Q6_K/Triage-7B-Q6_K-00001-of-00003.gguf']) {
    assert.throws(() => chooseGguf(REPOSITORY, { kind: 'file', path }, 'x'), { code: 'NOT_FOUND' });
  }
});

test('what names say of quantization', () => {
  const said = {
    model_q4_0: 'Q4_0',
    'x.Q5_K_M': 'Q5_K_M',
    'gpt-mxfp4': 'MXFP4',
    'x-fp16': 'FP16',
    iq2_xxs: 'IQ2_XXS',
    'qwen2.5': undefined,
    q: undefined,
    faq4_0x: undefined,
  };
  for (const [name, quantization] of Object.entries(said))
    assert.equal(quantizationIn(name), quantization, name);
});

test('no list of names makes the choice throw anything but ours', () => {
  fc.assert(
    fc.property(fc.array(fc.string({ unit: 'binary' })), fc.string(), (paths, wanted) => {
      for (const candidate of ggufCandidates([...paths, 'a-Q4_0.gguf']))
        assert.ok(candidate.files.length > 0);
      try {
        chooseGguf(paths, { kind: 'quantization', quantization: wanted }, 'x');
      } catch (error) {
        assert.ok(error instanceof FreeholdError);
      }
    }),
  );
});

test('package names of imported models', () => {
  const names = {
    'SmolLM2-135M-Instruct.Q4_1.gguf': 'local/smollm2-135m-instruct',
    'Qwen2.5-0.5B-Instruct-GGUF': 'local/qwen2.5-0.5b-instruct',
    'Triage-7B-BF16-00001-of-00002.gguf': 'local/triage-7b',
    'My Model (v2)__final.gguf': 'local/my-model-v2-final',
    'llama3.2-1b-instruct-q4_K_M': 'local/llama3.2-1b-instruct',
    '--..x__._y..': 'local/x-y',
    'Größe.gguf': 'local/gr-e',
  };
  for (const [foreign, name] of Object.entries(names)) assert.equal(localPackageName(foreign), name, foreign);
  assert.throws(() => localPackageName('Q4_K_M.gguf'), { code: 'NAME_INVALID', hint: /--name/ });
  assert.equal(chosenLocalName('triage'), 'local/triage');
  assert.equal(chosenLocalName('local/triage'), 'local/triage');
  assert.throws(() => chosenLocalName('acme/triage'), { code: 'NAME_INVALID' });
});

test('whatever a file is called, its package name is one or is refused', () => {
  fc.assert(
    fc.property(fc.string({ unit: fc.constantFrom(...'aZ9._-/ q4k_Ä') }), (text) => {
      try {
        const name = localPackageName(text);
        assert.equal(parsePackageName(name), name);
      } catch (error) {
        assert.ok(
          error instanceof FreeholdError && error.code === 'NAME_INVALID' && error.hint.includes('--name'),
          String(error),
        );
      }
    }),
    { numRuns: 2000 },
  );
});

test('licences: SPDX where it is known, a LicenseRef otherwise', () => {
  const expressions = {
    'apache-2.0': 'Apache-2.0',
    MIT: 'MIT',
    'Apache 2.0': 'Apache-2.0',
    'mit OR apache-2.0': 'MIT OR Apache-2.0',
    'llama3.1': 'LicenseRef-llama3.1',
    'LicenseRef-Acme': 'LicenseRef-Acme',
    'apache-2.0 plus terms': 'LicenseRef-apache-2.0-plus-terms',
    'MIT OR': 'LicenseRef-MIT-OR',
    '': LICENSE_UNKNOWN,
    '???': LICENSE_UNKNOWN,
    unknown: LICENSE_UNKNOWN,
  };
  for (const [stated, expression] of Object.entries(expressions)) {
    assert.equal(licenseExpression(stated), expression, stated);
  }
  assert.equal(licenseExpression(undefined), LICENSE_UNKNOWN);
  assert.ok(isOpenLicense('MIT OR Apache-2.0'));
  for (const closed of ['LicenseRef-gemma', LICENSE_UNKNOWN, 'MIT AND LicenseRef-x']) {
    assert.ok(!isOpenLicense(closed), closed);
  }
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (stated) => {
      assert.ok(licenseSchema.safeParse(licenseExpression(stated)).success);
    }),
  );
});
