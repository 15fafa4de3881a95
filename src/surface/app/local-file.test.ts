import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { temporaryFolder } from '../../../tests/fixtures/freehold-home.ts';
import { readTextFile } from './local-file.ts';

test('a text file is read whole or refused with its name, never cut off', async (context) => {
  const folder = await temporaryFolder(context);
  const file = path.join(folder, 'a.txt');
  await writeFile(file, 'grüße');
  assert.equal(await readTextFile(file, { bytesMax: 7 }), 'grüße');
  await assert.rejects(readTextFile(file, { bytesMax: 6, hint: 'shorter' }), {
    code: 'CONFIG_INVALID',
    message: `${file}: more than the 6 bytes that are read`,
    hint: 'shorter',
  });
  await assert.rejects(readTextFile(`${file}.none`, { bytesMax: 7 }), { code: 'NOT_FOUND' });
  await assert.rejects(readTextFile(folder, { bytesMax: 7 }), { code: 'NOT_FOUND', message: /is a folder/ });
});

test('who gives up gets his own reason', async (context) => {
  const file = path.join(await temporaryFolder(context), 'a.txt');
  await writeFile(file, 'text');
  const reason = new Error('on purpose');
  await assert.rejects(readTextFile(file, { bytesMax: 7, signal: AbortSignal.abort(reason) }), reason);
});
