import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { listInstalled } from '../../src/surface/app/package-list.ts';
import { type DistributionGround, makeDistributionGround } from '../fixtures/distribution-ground.ts';
import { freehold } from '../fixtures/freehold-home.ts';
import { seededRandom } from '../fixtures/random.ts';
import { type RegistryProgram, registryMissing, startRegistryServer } from '../fixtures/registry-server.ts';
import { startFreehold } from '../fixtures/running-freehold.ts';
import { skipUnlessCi } from '../fixtures/skip.ts';
import { type SlowLine, startSlowLine } from '../fixtures/slow-line.ts';

export interface KilledTransferOptions {
  readonly program: RegistryProgram;
  readonly kills: number;
  /** Of the weights, about; of a tiny model with many tokens, unless `weights` gives a real one. */
  readonly megabytes: number;
  readonly weights?: () => Promise<string>;
  /** Kills pulls only. */
  readonly isPullOnly?: boolean;
  /** Of the line: a transfer must take long enough to be killed in the middle. */
  readonly bytesPerSecond: number;
  readonly seed: number;
}

/** Of one token of the tiny model: a row of its embedding. */
const ROW_BYTES = 1_024;
const REPOSITORY = 'acme/tiny';
/** What a retry may send again, of what had arrived. */
const RESENT_SHARE_MAX = 0.01;
/** Requests, documents and whatever lies in the buffers of the system when one end dies; not in the blob's bytes. */
const BESIDE_BYTES_MAX = 400_000;

/** Pulls, and pushes, that are killed at random moments lose nothing that had arrived, and complete. */
export function killedTransferSuite(options: KilledTransferOptions): void {
  const skip = skipUnlessCi(registryMissing(options.program));
  const name = `${options.megabytes} MB, ${options.program}, ${options.kills} kills`;
  test(`a pull that is killed: ${name}`, { skip }, (context) => killedPull(context, options));
  if (options.isPullOnly === true) return;
  test(`a push that is killed: ${name}`, { skip }, (context) => killedPush(context, options));
}

interface Ground extends DistributionGround {
  /** Of all files. */
  readonly totalBytes: number;
}

async function makeGround(context: TestContext, options: KilledTransferOptions): Promise<Ground> {
  const vocabularyTokens = Math.round((options.megabytes * 1e6) / ROW_BYTES);
  const weights = await options.weights?.();
  const ground = await makeDistributionGround(
    context,
    weights === undefined ? { model: { vocabularyTokens } } : { weights },
  );
  const [listed] = await listInstalled(ground.publisher);
  assert.ok(listed !== undefined);
  return { ...ground, totalBytes: listed.sizeBytes };
}

async function killedPull(context: TestContext, options: KilledTransferOptions): Promise<void> {
  const ground = await makeGround(context, options);
  const server = await startRegistryServer(context, options.program);
  const target = `oci://${server.host}/${REPOSITORY}`;
  const pushed = await freehold(['push', REPOSITORY, target], { home: ground.publisherHome });
  assert.equal(pushed.code, 0, pushed.stderr);
  const { home } = await ground.customer('customer');
  const line = await startSlowLine(context, server.host, options.bytesPerSecond);
  const install = ['install', `oci://${line.host}/${REPOSITORY}`];
  await killRepeatedly(context, { ...options, ...ground }, home, install, line.downBytes, async () => {
    const listed = await freehold(['list', '--json'], { home });
    assert.equal(listed.stdout, '[]\n', 'nothing half-installed is visible');
  });
  assertResent(context, { ...options, ...ground }, line.downBytes());
  const checked = await freehold(['check'], { home });
  assert.equal(checked.code, 0, checked.stdout);
  const verified = await freehold(['verify', REPOSITORY], { home });
  assert.equal(verified.code, 0, verified.stderr);
}

async function killedPush(context: TestContext, options: KilledTransferOptions): Promise<void> {
  const ground = await makeGround(context, options);
  const server = await startRegistryServer(context, options.program);
  const line = await startSlowLine(context, server.host, options.bytesPerSecond);
  const home = ground.publisherHome;
  const push = ['push', REPOSITORY, `oci://${line.host}/${REPOSITORY}`, '--no-chunk-maps'];
  await killRepeatedly(context, { ...options, ...ground }, home, push, line.upBytes, async () => {
    const tags = await fetch(`${server.origin}/v2/${REPOSITORY}/tags/list`);
    assert.doesNotMatch(await tags.text(), /"1\.0\.0/, 'no tag before everything behind it is there');
  });
  assertResent(context, { ...options, ...ground }, line.upBytes());
  const { home: customer } = await ground.customer('customer');
  const installed = await freehold(['install', `oci://${server.host}/${REPOSITORY}`], { home: customer });
  assert.equal(installed.code, 0, installed.stderr);
}

/** Kills the command at random shares of what is left, looks, and lets the last try finish. */
async function killRepeatedly(
  context: TestContext,
  options: KilledTransferOptions & Ground,
  home: string,
  command: readonly string[],
  movedBytes: SlowLine['downBytes'],
  look: () => Promise<void>,
): Promise<void> {
  const random = seededRandom(options.seed);
  for (let kill = 0; kill < options.kills; kill++) {
    const leftBytes = Math.max(0, options.totalBytes - movedBytes());
    // Not nearer to the end than the others leave room for.
    const untilBytes =
      movedBytes() + (leftBytes * (0.5 + random.below(1000) / 1000)) / (options.kills - kill + 1);
    const running = startFreehold(context, command, { home });
    while (movedBytes() < untilBytes && running.process.exitCode === null) await sleep(1);
    assert.equal(running.process.exitCode, null, `it ended before it was killed: ${running.stderr()}`);
    assert.deepEqual(await running.stop('SIGKILL'), { code: null, signal: 'SIGKILL' });
    await look();
  }
  const last = startFreehold(context, command, { home });
  assert.deepEqual(await last.ended(), { code: 0, signal: null }, last.stderr());
}

function assertResent(
  context: TestContext,
  { kills, totalBytes }: KilledTransferOptions & Ground,
  movedBytes: number,
): void {
  const resentBytes = movedBytes - totalBytes;
  context.diagnostic(
    `${(resentBytes / 1e6).toFixed(2)} MB came again of ${(totalBytes / 1e6).toFixed(1)} in ${kills} kills`,
  );
  const allowedBytes = kills * (RESENT_SHARE_MAX * totalBytes + BESIDE_BYTES_MAX);
  assert.ok(resentBytes < allowedBytes, `${resentBytes} of ${movedBytes} bytes came again`);
}
