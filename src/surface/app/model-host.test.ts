import assert from 'node:assert/strict';
import { open, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, describe, type TestContext, test } from 'node:test';
import { openTemporaryHome, temporaryFolder } from '../../../tests/fixtures/freehold-home.ts';
import { ManualClock } from '../../../tests/fixtures/manual-clock.ts';
import { waitUntil } from '../../../tests/fixtures/processes.ts';
import { installTinyPackage } from '../../../tests/fixtures/tiny-package.ts';
import { Digest } from '../../core/base/digest.ts';
import type { Engine, LoadedModel, LoadRequest } from '../../core/base/engine-port.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import type { LogRecord } from '../../core/base/log.ts';
import { createFakeEngine } from '../../io/engine/fake/fake-engine.ts';
import type { Freehold } from './freehold.ts';
import { installedPackages } from './installed-packages.ts';
import { createModelHost, type HostOptions } from './model-host.ts';

const MIB = 2 ** 20;
const HELLO = { prompt: { kind: 'chat', messages: [{ role: 'user', content: 'hello' }] } } as const;

/** The fake engine, with what it was asked to load, and requests as they reach its models. */
function watchedEngine(failure?: () => unknown) {
  const fake = createFakeEngine();
  const loads: LoadRequest[] = [];
  const adapters: (string | undefined)[] = [];
  const engine: Engine = {
    async load(request, signal) {
      loads.push(request);
      const thrown = failure?.();
      if (thrown !== undefined) throw thrown;
      const model = await fake.load(request, signal);
      return {
        info: { ...model.info, adapters: (request.adapters ?? []).map(({ name }) => name) },
        generate(asked, abort) {
          adapters.push(asked.adapter);
          const { adapter: _adapter, ...plain } = asked;
          return model.generate(plain, abort);
        },
        embed: (asked, abort) => model.embed(asked, abort),
        close: () => model.close(),
      };
    },
  };
  return { engine, loads, adapters };
}

async function answer(model: LoadedModel): Promise<string> {
  let text = '';
  for await (const event of model.generate(HELLO)) if (event.kind === 'text') text += event.text;
  return text;
}

const isCode = (code: string) => (error: unknown) => error instanceof FreeholdError && error.code === code;

describe('the model host', () => {
  let freehold: Freehold;
  let folder = '';
  const cleanups: (() => Promise<void>)[] = [];
  const suite = { after: (cleanup: () => Promise<void>) => cleanups.push(cleanup) } as unknown as TestContext;

  const hostOf = (context: TestContext, options: HostOptions) => {
    const host = createModelHost(freehold, {
      readMemory: async () => ({ limitBytes: 2 ** 40, availableBytes: 2 ** 40 }),
      ...options,
    });
    context.after(() => host.close());
    return host;
  };

  before(async () => {
    freehold = await openTemporaryHome(suite);
    folder = await temporaryFolder(suite);
    await installTinyPackage(freehold, path.join(folder, 'tiny'), {
      yaml: ['variants: [q8_0, q4_0]'],
      model: { contextTokens: 65_536, blocks: 2 },
    });
    await installTinyPackage(freehold, path.join(folder, 'other'), { name: 'acme/other' });
  });
  after(async () => {
    for (const cleanup of cleanups.toReversed()) await cleanup();
  });

  test('context and requests at once are decided before the load, and told to the engine', async (context) => {
    const { engine, loads } = watchedEngine();
    await hostOf(context, { engine }).use('tiny');
    await hostOf(context, { engine, contextTokens: 100_000, parallelRequests: 7 }).use('tiny');
    await hostOf(context, { engine, contextTokens: 300 }).use('other');
    assert.deepEqual(
      loads.map(({ name, contextTokens, parallelRequests }) => [name, contextTokens, parallelRequests]),
      [
        ['tiny', 8192, 4],
        ['tiny', 65_536, 7],
        ['other', 300, 4],
      ],
    );
  });

  test('what does not fit is refused with numbers, and with what would fit', async (context) => {
    const { engine, loads } = watchedEngine();
    const options = { engine, memoryBytes: 128 * MIB, contextTokens: 65_536 };
    await assert.rejects(hostOf(context, options).use('acme/tiny@1.0.0#q8_0'), (error: unknown) => {
      assert.ok(error instanceof FreeholdError && error.code === 'OUT_OF_MEMORY');
      assert.match(
        error.message,
        /^acme\/tiny@1\.0\.0#q8_0 needs \d+ MiB \(weights \d MiB, a context of 65536 tokens 16 MiB, work \d+ MiB, process \d+ MiB\); the budget is 128 MiB$/,
      );
      const fitting = Number(error.detail.fittingContextTokens);
      assert.ok(fitting >= 512 && fitting < 65_536, `${fitting}`);
      assert.equal(
        error.hint,
        `--context ${fitting} would fit; a smaller variant is acme/tiny@1.0.0#q4_0; --memory raises the budget`,
      );
      assert.equal(error.detail.budgetBytes, 128 * MIB);
      return true;
    });
    assert.equal(loads.length, 0);
    const hint = await hostOf(context, options)
      .use('acme/tiny@1.0.0#q8_0')
      .catch((error: FreeholdError) => error.hint);
    const contextTokens = Number(/--context (\d+)/.exec(String(hint))?.[1]);
    await hostOf(context, { ...options, contextTokens }).use('acme/tiny@1.0.0#q8_0');
    assert.equal(loads.at(-1)?.contextTokens, contextTokens);
  });

  test('fewer requests at once where the default does not fit, but never where somebody asked for a number', async (context) => {
    const { engine, loads } = watchedEngine();
    const log: LogRecord[] = [];
    const options = {
      engine,
      contextTokens: 65_536,
      memoryBytes: 570 * MIB,
      log: (record: LogRecord) => log.push(record),
    };
    await hostOf(context, options).use('tiny#q8_0');
    const lowered = loads[0]?.parallelRequests ?? 0;
    assert.ok(lowered >= 1 && lowered < 4, `${lowered}`);
    assert.deepEqual(
      log.map(({ event, fields }) => [event, fields?.wanted, fields?.parallelRequests]),
      [['parallel-requests-lowered', 4, lowered]],
    );
    await assert.rejects(
      hostOf(context, { ...options, parallelRequests: 4 }).use('tiny#q8_0'),
      isCode('OUT_OF_MEMORY'),
    );
  });

  test('a machine whose memory others use refuses as well', async (context) => {
    const { engine } = watchedEngine();
    const readMemory = async () => ({ limitBytes: 2 ** 40, availableBytes: 50 * MIB });
    await assert.rejects(
      hostOf(context, { engine, readMemory }).use('other'),
      /this machine has 50 MiB available, other programs use the rest/,
    );
  });

  test('without --memory the budget is 70 % of what the process may use', async (context) => {
    const { engine } = watchedEngine();
    const readMemory = async () => ({ limitBytes: 100 * MIB, availableBytes: 100 * MIB });
    await assert.rejects(hostOf(context, { engine, readMemory }).use('other'), /the budget is 70 MiB$/);
  });

  test('pinned models are loaded at the start and make the host ready; a failed load is tried again', async (context) => {
    let failure: unknown = new FreeholdError('DIGEST_MISMATCH', 'weights: damaged');
    const { engine, loads } = watchedEngine(() => failure);
    const clock = new ManualClock();
    const host = hostOf(context, { engine, clock, keepAliveMs: 1000, pins: ['tiny'] });
    await assert.rejects(host.requireReady(), /the pinned model tiny is not loaded yet/);
    await host.start();
    await waitUntil(
      () => loads.length === 1,
      10_000,
      () => 'no load',
    );
    await waitUntil(
      () => clock.sleeperCount > 0,
      10_000,
      () => 'no pause',
    );
    await assert.rejects(host.requireReady(), (error: unknown) => {
      assert.ok(isCode('DIGEST_MISMATCH')(error));
      assert.match(String(error), /the pinned model tiny could not be loaded: weights: damaged/);
      return true;
    });
    failure = undefined;
    await clock.advance(30_000);
    await waitUntil(
      () => loads.length === 2,
      10_000,
      () => 'no second load',
    );
    await waitUntil(
      async () =>
        host.requireReady().then(
          () => true,
          () => false,
        ),
      10_000,
      () => 'never ready',
    );
    await answer(await host.use('tiny'));
    await answer(await host.use('other'));
    await clock.advance(3_600_000);
    await answer(await host.use('tiny'));
    await answer(await host.use('other'));
    assert.deepEqual(
      loads.map(({ name }) => name),
      ['tiny', 'tiny', 'other', 'other'],
    );
  });

  test('a pin, an adapter or its file that is not there ends the start', async (context) => {
    const { engine } = watchedEngine();
    const file = path.join(folder, 'adapter.gguf');
    await writeFile(file, 'GGUF');
    const adapter = { base: 'tiny', name: 'ward7', file };
    await assert.rejects(hostOf(context, { engine, pins: ['tinny'] }).start(), isCode('MODEL_NOT_FOUND'));
    for (const [adapters, code] of [
      [[{ ...adapter, base: 'nothing' }], 'MODEL_NOT_FOUND'],
      [[{ ...adapter, file: `${file}.missing` }], 'NOT_FOUND'],
      [[{ ...adapter, file: folder }], 'NOT_FOUND'],
      [[{ ...adapter, name: '../ward' }], 'NAME_INVALID'],
      [[adapter, { ...adapter, base: 'acme/tiny' }], 'CONFIG_INVALID'],
    ] as const) {
      await assert.rejects(hostOf(context, { engine, adapters }).start(), isCode(code), code);
    }
  });

  test('adapters: listed beside their model, one load for all, chosen by name', async (context) => {
    const files = await Promise.all(
      ['ward7', 'ward8'].map(async (name) => {
        const file = path.join(folder, `${name}.gguf`);
        await writeFile(file, `GGUF ${name}`);
        return { base: 'acme/tiny', name, file };
      }),
    );
    const { engine, loads, adapters } = watchedEngine();
    const host = hostOf(context, { engine, adapters: files });
    assert.deepEqual(
      (await host.list()).map(({ id, reference }) => [id, reference]),
      [
        ['other', 'acme/other@1.0.0#f32'],
        ['tiny', 'acme/tiny@1.0.0#q8_0'],
        ['tiny+ward7', 'acme/tiny@1.0.0#q8_0+ward7'],
        ['tiny+ward8', 'acme/tiny@1.0.0#q8_0+ward8'],
      ],
    );
    for (const id of ['tiny+ward7', 'acme/tiny@1.0.0+ward8', 'tiny']) await answer(await host.use(id));
    assert.equal(loads.length, 1);
    assert.deepEqual(adapters, ['ward7', 'ward8', undefined]);
    assert.deepEqual((await host.use('tiny+ward7')).info.adapters, ['ward7', 'ward8']);
    await assert.rejects((await host.use('tiny+ward7')).embed({ inputs: ['x'] }), isCode('NOT_SUPPORTED'));
    await assert.rejects(host.use('tiny+wart7'), /did you mean "ward7"\?/);
    await assert.rejects(host.use('other+ward7'), isCode('MODEL_NOT_FOUND'));

    const loaded = loads[0]?.adapters ?? [];
    assert.deepEqual(
      loaded.map(({ name }) => name),
      ['ward7', 'ward8'],
    );
    const opened = await loaded[0]?.file.open();
    assert.equal(opened?.digest, Digest.of('GGUF ward7'));
    await opened?.requireUnchanged();
    await writeFile(files[0]?.file ?? '', 'GGUF changed!');
    await assert.rejects(opened?.requireUnchanged() ?? Promise.resolve(), isCode('DIGEST_MISMATCH'));
    await opened?.close();
    await assert.rejects(
      loaded[0]?.file.open() ?? Promise.resolve(),
      /was changed since it was first loaded/,
    );
  });

  test('a header that was tampered with is a wrong digest, whatever memory it claims', async (context) => {
    const items = installedPackages(await freehold.store.entries());
    const other = items.find(({ name }) => name === 'acme/other');
    const manifest = JSON.parse(
      String(await freehold.store.blobs.readAll(other?.manifestDigest ?? Digest.of(''), MIB)),
    ) as { layers: { digest: string; size: number }[] };
    const weights = manifest.layers.toSorted((left, right) => right.size - left.size)[0];
    const file = path.join(freehold.store.folder, 'blobs', 'sha256', (weights?.digest ?? '').slice(7));
    const good = await readFile(file);
    context.after(async () => {
      await rm(file, { force: true });
      await writeFile(file, good);
    });
    const key = good.indexOf('llama.block_count') + 'llama.block_count'.length + 4;
    for (const blocks of [500, 2 ** 31]) {
      const handle = await open(file, 'r+').catch(async () => {
        await rm(file);
        await writeFile(file, good);
        return open(file, 'r+');
      });
      const bytes = Buffer.alloc(4);
      bytes.writeUInt32LE(blocks);
      await handle.write(bytes, 0, 4, key);
      await handle.close();
      const { engine, loads } = watchedEngine();
      await assert.rejects(
        hostOf(context, { engine, memoryBytes: 100 * MIB }).use('other'),
        isCode('DIGEST_MISMATCH'),
        `${blocks}`,
      );
      assert.deepEqual(loads, []);
    }
  });
});
