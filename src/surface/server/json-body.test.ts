import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BODIES_BYTES_MAX, BODY_BYTES_MAX, readJsonBody } from './json-body.ts';

const HEADERS = { 'content-type': 'application/json' };

/** A request whose body has begun with `bytes` blanks and ends when it is told to. */
function slowRequest(bytes: number) {
  const { promise: released, resolve: release } = Promise.withResolvers<void>();
  const body = new ReadableStream<Uint8Array>({
    start: (controller) => controller.enqueue(new Uint8Array(bytes).fill(0x20)),
    async pull(controller) {
      await released;
      controller.enqueue(Buffer.from('{}'));
      controller.close();
    },
  });
  const request = new Request('http://localhost/', {
    method: 'POST',
    headers: HEADERS,
    body,
    duplex: 'half',
  });
  return { request, release };
}

test('bodies that are received at once have one bound, and it is given back', async () => {
  const bytes = BODY_BYTES_MAX - 1024;
  const count = Math.floor(BODIES_BYTES_MAX / bytes);
  const slow = Array.from({ length: count }, () => slowRequest(bytes));
  const reading = slow.map(({ request }) => readJsonBody(request));
  await new Promise((resolve) => setImmediate(resolve));
  const further = slowRequest(bytes);
  await assert.rejects(readJsonBody(further.request), { code: 'BUSY' });
  const small = new Request('http://localhost/', { method: 'POST', headers: HEADERS, body: '{"a":1}' });
  assert.deepEqual(await readJsonBody(small), { a: 1 });
  for (const { release } of slow) release();
  assert.deepEqual(await Promise.all(reading), Array(count).fill({}));
  further.release();
  const again = slowRequest(bytes);
  again.release();
  assert.deepEqual(await readJsonBody(again.request), {});
});
