import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';
import { openTemporaryHome, temporaryFolder } from '../../../tests/fixtures/freehold-home.ts';
import { installTinyPackage } from '../../../tests/fixtures/tiny-package.ts';
import { ggufValue } from '../../core/format/gguf/gguf-values.ts';
import { diffPackages } from './diff-packages.ts';

const { signal } = new AbortController();

test('what changed between two versions, and what an update fetches', async (context) => {
  const freehold = await openTemporaryHome(context);
  const folder = await temporaryFolder(context);
  await installTinyPackage(freehold, path.join(folder, '1'), { yaml: ['variants: [{ name: full }, q8_0]'] });
  await installTinyPackage(freehold, path.join(folder, '2'), {
    version: '1.1.0',
    yaml: ['parameters: { temperature: 0 }', 'variants: [{ name: full }, q8_0]'],
    files: { LICENSE: 'New.\n', README: 'Read me.\n' },
    model: { metadata: [['general.name', ggufValue.string('x'.repeat(500))]] },
  });
  await installTinyPackage(freehold, path.join(folder, '3'), {
    version: '1.2.0',
    model: { seed: 2, blocks: 1 },
  });

  const same = await diffPackages(freehold, 'acme/tiny@1.0.0', 'acme/tiny@1.0.0', signal);
  assert.deepEqual(
    [
      same.files,
      same.descriptor,
      same.metadata,
      same.tokens,
      same.chatTemplate,
      same.tensors,
      same.updateBytes,
    ],
    [[], [], [], undefined, [], [], 0],
  );

  const edited = await diffPackages(freehold, 'acme/tiny@1.0.0#full', 'acme/tiny@1.1.0', signal);
  assert.equal(edited.after, 'acme/tiny@1.1.0#full', 'the same variant');
  assert.deepEqual(
    edited.files.map(({ path: file, kind }) => [file, kind]),
    [
      ['LICENSE', 'changed'],
      ['tiny-f32.gguf', 'changed'],
      ['README', 'added'],
    ],
  );
  assert.deepEqual(
    edited.descriptor.map(({ key, after }) => [key, key === 'memoryBytes' ? '' : after]),
    [
      ['memoryBytes', ''],
      ['parameters.temperature', '0'],
    ],
  );
  assert.deepEqual(
    edited.metadata.map(({ key, after = '' }) => [key, after.length]),
    [['general.name', 101]],
  );
  assert.deepEqual(edited.tensors, []);
  assert.ok(edited.sameTensorBytes > 2_000_000);
  assert.ok(edited.updateBytes < edited.wholeBytes / 5, `${edited.updateBytes} of ${edited.wholeBytes}`);

  const trained = await diffPackages(freehold, 'tiny@1.0.0#full', 'tiny@1.2.0', signal);
  assert.ok(trained.tensors.some(({ name, kind }) => kind === 'changed' && name === 'blk.0.attn_q.weight'));
  assert.ok(trained.tensors.some(({ name, kind }) => kind === 'removed' && name === 'blk.1.attn_q.weight'));
  assert.ok(
    trained.metadata.some(
      ({ key, before, after }) => /block_count$/.test(key) && before === '2' && after === '1',
    ),
  );

  await assert.rejects(diffPackages(freehold, 'acme/tiny@1.0.0', 'acme/none', signal), {
    code: 'MODEL_NOT_FOUND',
  });
});
