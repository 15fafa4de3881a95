import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';
import { openFreehold } from '../../src/surface/app/freehold.ts';
import { temporaryFolder } from '../fixtures/freehold-home.ts';
import { seededRandom } from '../fixtures/random.ts';
import { installTinyPackage } from '../fixtures/tiny-package.ts';
import { flipped, partsOf, refusalOf, withBytes } from './installed-package.ts';

const WEIGHTS_OFFSETS = 500;

test('every byte of every document, and 500 bytes of the weights: none can be changed unseen', async (context) => {
  const folder = await temporaryFolder(context);
  const home = path.join(folder, 'home');
  const freehold = await openFreehold({ env: {}, home });
  await installTinyPackage(freehold, path.join(folder, 'tiny'), { chatTemplate: 'hello' });
  const random = seededRandom(7);
  let tried = 0;
  for (const part of await partsOf(freehold)) {
    const { length } = part.bytes;
    const isWeights = part.name.endsWith('.gguf');
    const count = isWeights ? WEIGHTS_OFFSETS : length;
    for (let index = 0; index < count; index++) {
      const offset = isWeights ? random.below(length) : index;
      const mask = 1 + random.below(255);
      await withBytes(part, flipped(part.bytes, offset, mask), async () => {
        const refusal = await refusalOf(home);
        const shown = `byte ${offset} of ${part.name}, ^${mask}: ${refusal?.code} ${refusal?.message}`;
        assert.equal(refusal?.exitCode, 4, shown);
        assert.ok(refusal.message.includes(part.name), shown);
      });
      tried++;
    }
  }
  assert.equal(await refusalOf(home), undefined);
  context.diagnostic(`${tried} flips`);
});
