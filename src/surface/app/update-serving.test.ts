import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';
import { openTemporaryHome, temporaryFolder } from '../../../tests/fixtures/freehold-home.ts';
import { installTinyPackage } from '../../../tests/fixtures/tiny-package.ts';
import type { Engine, LoadedModel } from '../../core/base/engine-port.ts';
import { createFakeEngine } from '../../io/engine/fake/fake-engine.ts';
import { createModelHost } from './model-host.ts';
import { rollBack } from './update-rollback.ts';
import { activateVersion } from './version-activation.ts';

const HELLO = { prompt: { kind: 'chat', messages: [{ role: 'user', content: 'hello' }] } } as const;

/** The fake engine, with the weights that were loaded, and those that are still. */
function watchedEngine() {
  const loads: string[] = [];
  const live = new Set<string>();
  const fake = createFakeEngine({ tokenDelayMs: 5 });
  const engine: Engine = {
    async load(request, signal) {
      const model = await fake.load(request, signal);
      const weights = request.weights[0]?.digest ?? '';
      loads.push(weights);
      live.add(weights);
      return {
        ...model,
        info: model.info,
        generate: (asked, abort) => model.generate(asked, abort),
        embed: (asked, abort) => model.embed(asked, abort),
        async close() {
          live.delete(weights);
          await model.close();
        },
      } satisfies LoadedModel;
    },
  };
  return { engine, loads, live };
}

test('a request that runs ends on the old version, the next one starts on the new, and the old one goes', async (context) => {
  const freehold = await openTemporaryHome(context);
  const folder = await temporaryFolder(context);
  for (const [index, version] of ['1.0.0', '1.1.0'].entries()) {
    await installTinyPackage(freehold, path.join(folder, version), { version, model: { seed: index + 1 } });
  }
  await activateVersion(freehold, 'acme/tiny', '1.0.0');
  const { engine, loads, live } = watchedEngine();
  const host = createModelHost(freehold, {
    engine,
    keepAliveMs: 0,
    readMemory: async () => ({ limitBytes: 2 ** 40, availableBytes: 2 ** 40 }),
  });
  context.after(() => host.close());
  const inUse = async () => (await host.list()).map(({ reference }) => reference.replace(/#.*/, ''));
  const answer = async (onFirst: () => Promise<unknown> = async () => {}) => {
    const model = await host.use('tiny');
    let text = '';
    for await (const event of model.generate(HELLO)) {
      if (event.kind === 'text' && text === '') await onFirst();
      if (event.kind === 'text') text += event.text;
    }
    return text;
  };

  assert.deepEqual(await inUse(), ['acme/tiny@1.0.0']);
  let meanwhile = '';
  const text = await answer(async () => {
    await activateVersion(freehold, 'acme/tiny', '1.1.0');
    assert.deepEqual(await inUse(), ['acme/tiny@1.1.0']);
    meanwhile = await answer();
    assert.equal(live.has(loads[0] ?? ''), true, 'the old version still works on its request');
  });
  assert.match(text, /hello/);
  assert.match(meanwhile, /hello/);
  assert.equal(loads.length, 2);
  assert.notEqual(loads[0], loads[1]);
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.deepEqual([...live], [], 'nobody uses either any more');

  await rollBack(freehold, 'tiny');
  assert.deepEqual(await inUse(), ['acme/tiny@1.0.0']);
  await answer();
  assert.equal(loads[2], loads[0]);
  // Held back, and there for whoever names it.
  await (await host.use('acme/tiny@1.1.0')).close();
  assert.equal(loads[3], loads[1]);
});
