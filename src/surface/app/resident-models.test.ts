import assert from 'node:assert/strict';
import { test } from 'node:test';
import { seededRandom } from '../../../tests/fixtures/random.ts';
import { answer, GIB, residency, settle, TestModel } from '../../../tests/fixtures/test-models.ts';
import { FreeholdError } from '../../core/base/errors.ts';

const isCode = (code: string) => (error: unknown) => error instanceof FreeholdError && error.code === code;
const deferred = () => Promise.withResolvers<void>();

test('concurrent callers share one load', async () => {
  const { residents } = residency();
  const a = new TestModel('a', GIB);
  await Promise.all([1, 2, 3].map(() => residents.use(a.order())));
  assert.equal(a.loads, 1);
  await residents.close();
  assert.equal(a.closes, 1);
});

test('a failed load gives its memory back, and is tried again', async () => {
  const { residents } = residency({ budget: GIB });
  const a = new TestModel('a', GIB);
  a.failNextLoad = new Error('first');
  await assert.rejects(residents.use(a.order()), /first/);
  assert.deepEqual(residents.holders(), []);
  await answer(await residents.use(a.order()));
  await residents.close();
});

test('as many as fit, then the least recently used idle one makes room', async () => {
  const { residents, log } = residency({ budget: 3 * GIB });
  const [a, b, c, d] = ['a', 'b', 'c', 'd'].map((key) => new TestModel(key, GIB)) as [
    TestModel,
    TestModel,
    TestModel,
    TestModel,
  ];
  for (const model of [a, b, c]) await answer(await residents.use(model.order()));
  await answer(await residents.use(a.order()));
  assert.deepEqual([a.live, b.live, c.live], [1, 1, 1]);
  await answer(await residents.use(d.order()));
  assert.deepEqual([a.live, b.live, c.live, d.live], [1, 0, 1, 1]);
  assert.deepEqual(log.at(-1), {
    level: 'info',
    event: 'model-unloaded',
    fields: { model: 'b', reason: 'room', freedBytes: GIB },
  });
  await residents.close();
  assert.deepEqual([a.closes, b.closes, c.closes, d.closes], [1, 1, 1, 1]);
});

test('one large model takes the place of several small ones, and no more than it needs', async () => {
  const { residents } = residency({ budget: 4 * GIB });
  const small = ['a', 'b', 'c', 'd'].map((key) => new TestModel(key, GIB));
  for (const model of small) await answer(await residents.use(model.order()));
  const large = new TestModel('large', 3 * GIB);
  await answer(await residents.use(large.order()));
  assert.deepEqual(
    small.map(({ live }) => live),
    [0, 0, 0, 1],
  );
  await residents.close();
});

test('a model at work is never closed: BUSY, and afterwards there is room', async () => {
  const { residents } = residency({ budget: GIB });
  const [a, b] = [new TestModel('a', GIB), new TestModel('b', GIB)];
  const held = deferred();
  a.answering = held.promise;
  const running = answer(await residents.use(a.order()));
  await settle();
  await assert.rejects(residents.use(b.order()), (error: unknown) => {
    assert.ok(isCode('BUSY')(error));
    assert.equal((error as FreeholdError).detail.holders, 'a at work');
    return true;
  });
  assert.equal(a.closes, 0);
  held.resolve();
  await running;
  await answer(await residents.use(b.order()));
  assert.equal(a.live, 0);
  await residents.close();
});

test('a model that was just asked for is not taken away before its request', async () => {
  const { residents, clock } = residency({ budget: GIB });
  const [a, b] = [new TestModel('a', GIB), new TestModel('b', GIB)];
  await residents.use(a.order());
  await assert.rejects(residents.use(b.order()), isCode('BUSY'));
  await clock.advance(1000);
  await residents.use(b.order());
  assert.equal(a.live, 0);
  await residents.close();
});

test('what could never fit is OUT_OF_MEMORY, and costs nobody his place', async () => {
  const { residents } = residency({ budget: 2 * GIB });
  const [a, large] = [new TestModel('a', GIB), new TestModel('large', 3 * GIB)];
  await answer(await residents.use(a.order()));
  await assert.rejects(residents.use(large.order()), /large: never/);
  assert.equal(a.live, 1);
  await residents.close();
});

test('a pinned model stays, and what does not fit beside it never will', async () => {
  const { residents, clock } = residency({ budget: 2 * GIB, keepAliveMs: 1000 });
  const [a, b] = [new TestModel('a', GIB), new TestModel('b', 2 * GIB)];
  residents.pin(new Set(['a']));
  await answer(await residents.use(a.order()));
  await clock.advance(60_000);
  assert.equal(a.live, 1);
  await assert.rejects(residents.use(b.order()), (error: unknown) => {
    assert.ok(isCode('OUT_OF_MEMORY')(error));
    assert.equal((error as FreeholdError).detail.holders, 'a pinned');
    return true;
  });
  residents.pin(new Set());
  await clock.advance(1000);
  assert.equal(a.live, 0);
  await residents.close();
});

test('memory that other programs took is not promised: neither free nor by closing enough', async () => {
  let availableBytes = 2 * GIB;
  const { residents } = residency({
    budget: 10 * GIB,
    readMemory: async () => ({ limitBytes: 64 * GIB, availableBytes }),
  });
  const [a, b] = [new TestModel('a', 3 * GIB), new TestModel('b', 2 * GIB)];
  await assert.rejects(residents.use(a.order()), /a: machine/);
  await answer(await residents.use(b.order()));
  availableBytes = 3 * GIB;
  await answer(await residents.use(a.order()));
  await residents.close();
});

test('fewer requests at once rather than none, and the log says so', async () => {
  const { residents, log } = residency({ budget: 3 * GIB });
  const a = new TestModel('a', GIB, [4, 3, 2, 1]);
  const b = new TestModel('b', GIB, [4, 3, 2, 1]);
  const model = await residents.use(a.order());
  assert.equal(model.info.parallelRequests, 3);
  assert.deepEqual(log, [
    {
      level: 'warning',
      event: 'parallel-requests-lowered',
      fields: { model: 'a', wanted: 4, parallelRequests: 3, neededBytes: 3 * GIB, budgetBytes: 3 * GIB },
    },
  ]);
  await answer(model);
  // An idle one goes before anybody gets fewer requests than the budget allows.
  assert.equal((await residents.use(b.order())).info.parallelRequests, 3);
  assert.equal(a.live, 0);
  await residents.close();
});

test('two first loads at once do not count the same free memory', async () => {
  const { residents } = residency({ budget: 3 * GIB });
  const models = ['a', 'b', 'c'].map((key) => new TestModel(key, 2 * GIB));
  const gate = deferred();
  for (const model of models) model.loading = gate.promise;
  const outcomes = Promise.allSettled(models.map((model) => residents.use(model.order())));
  await settle();
  assert.deepEqual(residents.holders(), [{ name: 'a', bytes: 2 * GIB, state: 'loading' }]);
  gate.resolve();
  assert.deepEqual(
    (await outcomes).map(({ status }) => status),
    ['fulfilled', 'rejected', 'rejected'],
  );
  await residents.close();
});

test('room is given in the order in which it was asked for', async () => {
  const { residents, clock } = residency({ budget: 3 * GIB });
  const [old, large, small] = [
    new TestModel('old', 3 * GIB),
    new TestModel('large', 3 * GIB),
    new TestModel('small', GIB),
  ];
  await answer(await residents.use(old.order()));
  const gate = deferred();
  old.closing = gate.promise;
  const first = residents.use(large.order());
  await settle();
  const second = residents.use(small.order());
  second.catch(() => {});
  gate.resolve();
  await answer(await first);
  await clock.advance(1000);
  await assert.rejects(second, isCode('BUSY'));
  await residents.close();
});

test('memory that a closing model still holds is waited for', async () => {
  const { residents, clock } = residency({ budget: GIB, keepAliveMs: 1000 });
  const [a, b] = [new TestModel('a', GIB), new TestModel('b', GIB)];
  await answer(await residents.use(a.order()));
  const gate = deferred();
  a.closing = gate.promise;
  await clock.advance(1000);
  const waiting = residents.use(b.order()).then(answer);
  await settle();
  assert.equal(b.loads, 0);
  gate.resolve();
  await waiting;
  await residents.close();
});

test('what a load will take is not free any more, though the machine does not miss it yet', async () => {
  const { residents } = residency({
    readMemory: async () => ({ limitBytes: 64 * GIB, availableBytes: 3 * GIB }),
  });
  const [a, b] = [new TestModel('a', 2 * GIB), new TestModel('b', 2 * GIB)];
  const gate = deferred();
  a.loading = gate.promise;
  const first = residents.use(a.order());
  await settle();
  await assert.rejects(residents.use(b.order()), isCode('BUSY'));
  gate.resolve();
  await first;
  await answer(await residents.use(b.order()));
  await residents.close();
});

test('while one model loads, or is refused, those that are loaded answer', async () => {
  const { residents } = residency();
  const [a, slow] = [new TestModel('a', GIB), new TestModel('slow', GIB)];
  const gate = deferred();
  slow.loading = gate.promise;
  const ready = await residents.use(a.order());
  const waiting = residents.use(slow.order());
  await answer(ready);
  await answer(await residents.use(a.order()));
  const other = new TestModel('other', GIB);
  await answer(await residents.use(other.order()));
  gate.resolve();
  await answer(await waiting);
  await residents.close();
});

test('an unused model is unloaded after its time, and loaded again by whoever still holds it', async () => {
  const { residents, clock } = residency({ keepAliveMs: 300_000 });
  const a = new TestModel('a', GIB);
  const model = await residents.use(a.order());
  await answer(model);
  await clock.advance(299_999);
  await answer(model);
  await clock.advance(299_999);
  assert.equal(a.live, 1);
  await clock.advance(1);
  assert.equal(a.live, 0);
  assert.deepEqual(residents.holders(), []);
  await answer(model);
  assert.deepEqual([a.loads, a.live], [2, 1]);
  await residents.close();
});

test('a request that runs longer than the time is not cut off; the time begins at its end', async () => {
  const { residents, clock } = residency({ keepAliveMs: 1000 });
  const a = new TestModel('a', GIB);
  const held = deferred();
  a.answering = held.promise;
  const running = answer(await residents.use(a.order()));
  await settle();
  await clock.advance(50_000);
  assert.equal(a.closes, 0);
  held.resolve();
  await running;
  await clock.advance(999);
  assert.equal(a.live, 1);
  await clock.advance(1);
  assert.equal(a.live, 0);
});

test('with no time at all, a model is loaded once for each request', async () => {
  const { residents, clock } = residency({ keepAliveMs: 0 });
  const a = new TestModel('a', GIB);
  for (const round of [1, 2]) {
    await answer(await residents.use(a.order()));
    await clock.advance(0);
    assert.deepEqual([a.loads, a.live], [round, 0]);
  }
});

test('a stream that its reader leaves counts as ended', async () => {
  const { residents, clock } = residency({ keepAliveMs: 1000 });
  const a = new TestModel('a', GIB);
  for await (const event of (await residents.use(a.order())).generate({
    prompt: { kind: 'text', text: '' },
  })) {
    assert.equal(event.kind, 'started');
    break;
  }
  await clock.advance(1000);
  assert.equal(a.live, 0);
});

test('a load that everybody has left ends as an idle model', async () => {
  const { residents, clock } = residency({ keepAliveMs: 1000 });
  const a = new TestModel('a', GIB);
  const gate = deferred();
  a.loading = gate.promise;
  const abort = new AbortController();
  const impatient = residents.use(a.order(), abort.signal);
  await settle();
  abort.abort(new Error('gave up'));
  await assert.rejects(impatient, isCode('CANCELLED'));
  gate.resolve();
  await settle();
  assert.equal(a.live, 1);
  await clock.advance(1000);
  assert.equal(a.live, 0);
});

test('a caller that gives up leaves the load to the others', async () => {
  const { residents } = residency();
  const a = new TestModel('a', GIB);
  const gate = deferred();
  a.loading = gate.promise;
  const abort = new AbortController();
  const impatient = residents.use(a.order(), abort.signal);
  const patient = residents.use(a.order());
  abort.abort();
  await assert.rejects(impatient, isCode('CANCELLED'));
  gate.resolve();
  await answer(await patient);
  assert.equal(a.loads, 1);
  await residents.close();
  await assert.rejects(residents.use(a.order()), isCode('CANCELLED'));
});

test('a request that comes while its model is being closed waits, and loads it again', async () => {
  const { residents, clock } = residency({ keepAliveMs: 1000, budget: GIB });
  const a = new TestModel('a', GIB);
  const model = await residents.use(a.order());
  await answer(model);
  const gate = deferred();
  a.closing = gate.promise;
  await clock.advance(1000);
  assert.equal(a.closes, 1);
  const late = Promise.all([answer(model), answer(model), residents.use(a.order()).then(answer)]);
  await settle();
  // Its memory is not free before its process is gone.
  assert.equal(a.loads, 1);
  gate.resolve();
  await late;
  assert.deepEqual([a.loads, a.live, a.cutOff], [2, 1, 0]);
  await residents.close();
});

test('a host that is closed while a model loads leaves none behind', async () => {
  const { residents } = residency();
  const a = new TestModel('a', GIB);
  const gate = deferred();
  a.loading = gate.promise;
  const waiting = residents.use(a.order()).then(answer);
  await settle();
  const closed = residents.close();
  gate.resolve();
  await closed;
  await waiting.catch(() => {});
  assert.equal(a.live, 0);
});

test('a host that is closed while models are prepared ends as well', async () => {
  const { residents } = residency();
  const [a, b] = [new TestModel('a', GIB), new TestModel('b', GIB)];
  const gate = deferred();
  a.preparing = b.preparing = gate.promise;
  const waiting = [a, b].map((model) => residents.use(model.order()));
  await settle();
  const closed = residents.close();
  gate.resolve();
  for (const use of waiting) await assert.rejects(use, isCode('CANCELLED'));
  await closed;
  assert.deepEqual([a.loads, b.loads], [0, 0]);
});

test('saying again what is pinned does not keep others alive', async () => {
  const { residents, clock } = residency({ keepAliveMs: 1000 });
  const a = new TestModel('a', GIB);
  await answer(await residents.use(a.order()));
  for (let round = 0; round < 10; round++) {
    residents.pin(new Set(['b']));
    await clock.advance(100);
  }
  assert.equal(a.live, 0);
});

test('under a storm of requests and unloads nobody is cut off and the budget holds', async () => {
  for (let seed = 1; seed <= 20; seed++) {
    const { uint32, below } = seededRandom(seed);
    const isChance = (probability: number) => uint32() < probability * 2 ** 32;
    const { residents, clock } = residency({ budget: 4 * GIB, keepAliveMs: 3 });
    const models = ['a', 'b', 'c', 'd', 'e'].map((key, index) => new TestModel(key, (1 + (index % 3)) * GIB));
    const pause = async () => {
      for (let turns = below(6); turns > 0; turns--) await Promise.resolve();
    };
    const outcomes = { finished: 0, refused: 0 };
    const client = async () => {
      for (let request = 0; request < 15; request++) {
        const model = models[below(models.length)] as TestModel;
        model.closing = model.answering = model.loading = isChance(0.5) ? pause() : settle().then(() => {});
        const abort = new AbortController();
        try {
          const used = await residents.use(model.order(), abort.signal);
          await pause();
          if (isChance(0.1)) abort.abort();
          if (isChance(0.2)) await clock.advance(1);
          if (isChance(0.5)) await answer(used);
          else await used.embed({ inputs: [] }, abort.signal);
          outcomes.finished++;
        } catch (error) {
          if (abort.signal.aborted) continue;
          assert.ok(isCode('BUSY')(error), `seed ${seed}: ${error}`);
          outcomes.refused++;
        }
        const heldBytes = residents.holders().reduce((sum, { bytes }) => sum + bytes, 0);
        assert.ok(heldBytes <= 4 * GIB, `seed ${seed}: ${heldBytes} bytes are held`);
        const liveBytes = models.reduce((sum, { live, bytes }) => sum + live * bytes, 0);
        assert.ok(liveBytes <= 4 * GIB, `seed ${seed}: ${liveBytes} bytes are loaded`);
        await clock.advance(isChance(0.3) ? 4 : 0);
      }
    };
    await Promise.all(Array.from({ length: 8 }, client));
    assert.ok(outcomes.finished > 20, `seed ${seed}: ${JSON.stringify(outcomes)}`);
    assert.deepEqual(
      models.map(({ cutOff }) => cutOff),
      [0, 0, 0, 0, 0],
      `seed ${seed}`,
    );
    await residents.close();
    assert.ok(models.every(({ live }) => live === 0));
    assert.ok(models.some(({ loads }) => loads > 2));
  }
});
