import assert from 'node:assert/strict';
import { once } from 'node:events';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, type TestContext, test } from 'node:test';
import {
  CURRENT_USER,
  ORDINARY_USER,
  openProbeRange,
  type ProbeRange,
  type ProbeUser,
  runHost,
  runProbe,
  startHost,
} from './fixtures/probe-range.ts';
import { describeIsolation, launchChild, probeIsolation } from './launch.ts';

const REPOSITORY = path.resolve(import.meta.dirname, '..', '..', '..', '..');
const FIXTURES = path.join(import.meta.dirname, 'fixtures');
const STARTER_MODEL = path.join(
  process.env.XDG_CACHE_HOME ?? path.join(os.homedir(), '.cache'),
  'freehold/sha256/b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53',
);
const LLAMA_FOLDER = path.join(REPOSITORY, 'node_modules/@node-llama-cpp/linux-x64/bins/linux-x64');
const LANDLOCK_CREATE_RULESET = 444;
const SECCOMP = process.arch === 'arm64' ? 277 : 317;
/** unshare, setns, clone3. */
const NAMESPACE_CALLS = process.arch === 'arm64' ? [97, 268, 435] : [272, 308, 435];

/** What the sandbox answers; everything else that is tried must be refused with EPERM or EACCES. */
const OTHER_REFUSALS: Readonly<Record<string, string>> = {
  'dns getaddrinfo': 'EAI_AGAIN',
  'dns c-ares': 'ECONNREFUSED',
  'native clone3': 'ENOSYS',
};
/** Refused by some machines even without us (container profiles, sysctl): then they prove nothing there. */
const REFUSED_ELSEWHERE = new Set([
  'native ptrace',
  'native keyring',
  'native io_uring',
  'native file handle',
]);

const isLinux = process.platform === 'linux';
const isRoot = process.getuid?.() === 0;

/** A condition that a build machine must meet: there it fails, elsewhere it is skipped in sight. */
function isMissing(context: TestContext, condition: boolean, what: string): boolean {
  if (!condition) return false;
  assert.notEqual(process.env.CI, 'true', what);
  context.skip(what);
  return true;
}

for (const user of [CURRENT_USER, ORDINARY_USER]) {
  describe(`a sandboxed child of ${user.name}`, { skip: skipReason(user), timeout: 60_000 }, () => {
    let range: ProbeRange;
    let ggufFile: string;
    before(async () => {
      range = await openProbeRange(user);
      ggufFile = path.join(range.folder, 'tiny.gguf');
      fs.writeFileSync(ggufFile, 'GGUF and so on', { mode: 0o600 });
    });
    after(() => range.close());

    test('reaches nothing, where the same code without sandbox reaches everything', async (context) => {
      // Taken away as on machines that allow no user namespaces: the sandbox must not need them.
      const sandboxed = await runProbe(range, 'sandbox', ggufFile, NAMESPACE_CALLS);
      assert.equal(range.udpMessages(), 0, 'no datagram left the sandbox');
      const free = await runProbe(range, 'control', ggufFile);
      assert.equal(range.udpMessages(), 2);
      assert.deepEqual(Object.keys(sandboxed), Object.keys(free));
      for (const [attempt, outcome] of Object.entries(sandboxed)) {
        requireOutcome(context, attempt, outcome, free[attempt] ?? '');
      }
    });

    test('has an empty environment, few descriptors, no capabilities and no dumps', async () => {
      const env = { NODE_OPTIONS: '--no-deprecation', SECRET: 'x', LD_LIBRARY_PATH: '/nowhere' };
      const spec = { env: { GIVEN: 'yes' }, title: 'freehold-test' };
      const run = await runHost(range, {
        mode: 'sandbox',
        script: 'state-probe.ts',
        args: ['a b'],
        spec,
        env,
      });
      const { descriptors, capabilities, effectiveCapabilities, ...state } = JSON.parse(run.text);
      assert.deepEqual(state, {
        environment: { GIVEN: 'yes' },
        arguments: [path.join(range.root, 'src/io/engine/sandbox/fixtures/state-probe.ts'), 'a b'],
        title: 'freehold-test',
        workingFolder: '/',
        dumpable: 0,
        coreLimits: [1, 1],
        noNewPrivileges: '1',
        seccomp: '2',
      });
      assert.match(capabilities, /^0+[02]$/, 'nothing but CAP_DAC_OVERRIDE, and that for root only');
      assert.equal(effectiveCapabilities, capabilities);
      const opened = descriptors.filter(
        (name: string) => !/^(socket|pipe|anon_inode):|^\/dev\/null$/.test(name),
      );
      const processFiles = ['cgroup', 'fd', 'maps', 'stat', 'statm', 'status'].map(
        (name) => `/proc/self/${name}`,
      );
      const inherited = path.join(range.root, 'src/io/engine/sandbox/fixtures/state-probe.ts');
      // `closed` is the descriptor with which the list itself was read.
      assert.deepEqual(opened.toSorted(), [...processFiles, inherited, 'closed'].toSorted());
      assert.equal(descriptors.filter((name: string) => name.startsWith('socket:')).length, 3);
    });

    test('writes into the folder that it was given, and nowhere else', async () => {
      const granted = path.join(range.folder, 'granted');
      fs.mkdirSync(granted);
      if (user.ids !== undefined) fs.chownSync(granted, user.ids.uid, user.ids.gid);
      const run = await runHost(range, {
        mode: 'sandbox',
        script: 'writer.ts',
        args: [granted, path.dirname(range.targets.ownFile)],
        spec: { writePaths: [granted] },
      });
      assert.deepEqual(JSON.parse(run.text), {
        write: 'done',
        overwrite: 'done',
        rename: 'done',
        folder: 'EACCES',
        link: 'EACCES',
        mode: 'EPERM',
        other: 'EACCES',
        moveOut: 'EACCES',
        parent: 'EACCES',
      });
      assert.deepEqual(fs.readdirSync(granted), ['model.gguf']);
      assert.equal(fs.readFileSync(path.join(granted, 'model.gguf'), 'utf8'), 'new weights');
    });

    test('is gone within a second when its parent is killed, even in the middle of a blocking call', async () => {
      const host = startHost(range, { mode: 'sandbox', script: 'deaf-child.ts' });
      const pid = await childPidOf(host);
      assert.equal(isRunning(pid), true);
      host.kill('SIGKILL');
      try {
        await waitUntil(() => !isRunning(pid), 'the child outlived its parent');
      } finally {
        if (isRunning(pid)) process.kill(pid, 'SIGKILL');
      }
    });

    test('names what an older kernel lacks, and refuses there when the sandbox is required', async () => {
      const host = { mode: 'sandbox', script: 'state-probe.ts' } as const;
      const noLandlock = await runHost(range, { ...host, withoutCalls: [LANDLOCK_CREATE_RULESET] });
      assert.equal(noLandlock.isolation.kind, 'sandbox');
      assert.deepEqual('lost' in noLandlock.isolation && noLandlock.isolation.lost, [
        'the model process could read and change your files',
        'the model process could reach into your other processes',
      ]);
      const noFilter = await runHost(range, { ...host, withoutCalls: [SECCOMP] });
      assert.deepEqual('lost' in noFilter.isolation && noFilter.isolation.lost, [
        'the model process could open network connections',
        'the model process could start other programs',
        'the model process could reach into your other processes',
      ]);
      const neither = await runHost(range, { ...host, withoutCalls: [LANDLOCK_CREATE_RULESET, SECCOMP] });
      assert.equal(neither.isolation.kind, 'plain');
      assert.notEqual(neither.text, '', 'the plain process works');
      const required = await runHost(range, {
        ...host,
        withoutCalls: [LANDLOCK_CREATE_RULESET],
        spec: { isRequired: true },
      });
      assert.equal('code' in required.isolation && required.isolation.code, 'SANDBOX_UNAVAILABLE');
    });
  });
}

describe('a launched child', { skip: !isLinux && 'needs Linux', timeout: 60_000 }, () => {
  test('loads a model through llama.cpp from an inherited descriptor', async (context) => {
    if (isMissing(context, !fs.existsSync(STARTER_MODEL), 'the starter model is not in the cache')) return;
    if (isMissing(context, !fs.existsSync(LLAMA_FOLDER), 'the llama.cpp libraries are not installed')) return;
    const file = fs.openSync(STARTER_MODEL, 'r');
    const child = await launchChild({
      script: path.join(FIXTURES, 'model-probe.ts'),
      args: [LLAMA_FOLDER],
      inheritFds: [file],
      isRequired: true,
    });
    fs.closeSync(file);
    const [answer] = await Promise.race([once(child.channel, 'data'), failOnExit(child)]);
    child.channel.end();
    assert.deepEqual(JSON.parse(String(answer)), {
      sizeBytes: 96_576_768,
      tokens: [504, 2365, 6354, 16438],
      // Landlock judges the file by its place; only the open descriptor is a right to it.
      reopened: 'EACCES',
    });
  });

  test('ends when the channel closes', async () => {
    const child = await launchChild({ script: path.join(FIXTURES, 'state-probe.ts') });
    await once(child.channel, 'data');
    child.channel.destroy();
    assert.deepEqual(await once(child.process, 'exit'), [0, null]);
  });

  test('passes bytes unchanged, both ways, also many of them', async () => {
    const child = await launchChild({ script: path.join(FIXTURES, 'echo.ts') });
    const sent = Buffer.alloc(
      3_000_000,
      Uint8Array.from({ length: 251 }, (_, index) => index),
    );
    child.channel.write(sent);
    const received: Buffer[] = [];
    for (let length = 0; length < sent.length; ) {
      const [part] = (await once(child.channel, 'data')) as [Buffer];
      received.push(part);
      length += part.length;
    }
    child.channel.end();
    assert.ok(Buffer.concat(received).equals(sent));
  });

  test('leaves the last of its output, and no more than that', async () => {
    const child = await launchChild({ script: path.join(FIXTURES, 'shouter.ts') });
    await once(child.process, 'close');
    assert.match(child.stderrTail(), /the last words\n$/);
    assert.equal(Buffer.byteLength(child.stderrTail()), 64 * 1024);
  });

  test('that is cancelled while starting leaves no process', async () => {
    const controller = new AbortController();
    const launching = launchChild({ script: path.join(FIXTURES, 'deaf-child.ts') }, controller.signal);
    setTimeout(() => controller.abort(), 20);
    await assert.rejects(launching, { code: 'CANCELLED' });
    await waitUntil(() => runningChildren().length === 0, 'a process is left');
    await assert.rejects(launchChild({ script: path.join(FIXTURES, 'echo.ts') }, AbortSignal.abort()), {
      code: 'CANCELLED',
    });
  });

  test('is refused when a path of its order is not there', async () => {
    const script = path.join(FIXTURES, 'echo.ts');
    await assert.rejects(launchChild({ script: `${script}.gone` }), { code: 'NOT_FOUND' });
    await assert.rejects(launchChild({ script, readPaths: ['/nowhere/at/all'] }), { code: 'NOT_FOUND' });
    await assert.rejects(launchChild({ script, writePaths: ['relative'] }), { code: 'INTERNAL' });
  });

  test('can be probed for', async () => {
    const isolation = await probeIsolation();
    assert.match(describeIsolation(isolation), /^sandbox: files \(Landlock ABI \d+\), network/);
    assert.deepEqual(isolation.lost, []);
  });
});

function skipReason(user: ProbeUser): string | false {
  if (!isLinux) return 'needs Linux';
  return user.ids !== undefined && !isRoot && 'only root can start a process of another user';
}

function requireOutcome(context: TestContext, attempt: string, outcome: string, free: string): void {
  if (attempt.startsWith('needs ')) {
    assert.deepEqual([outcome, free], ['done', 'done'], attempt);
    return;
  }
  const refusals = OTHER_REFUSALS[attempt] === undefined ? ['EPERM', 'EACCES'] : [OTHER_REFUSALS[attempt]];
  assert.ok(refusals.includes(outcome), `${attempt}: ${outcome}`);
  if (refusals.includes(free) && REFUSED_ELSEWHERE.has(attempt)) {
    context.diagnostic(`${attempt} is refused on this machine even without sandbox`);
    return;
  }
  // Calls without arguments end in an error of their own when nobody refuses them.
  assert.ok(!refusals.includes(free), `${attempt} without sandbox: ${free}`);
  if (!attempt.startsWith('native ')) assert.equal(free, 'done', `${attempt} without sandbox`);
}

async function childPidOf(host: ReturnType<typeof startHost>): Promise<number> {
  let output = '';
  host.stdout?.setEncoding('utf8').on('data', (part: string) => (output += part));
  while (output.split('\n').length < 3) await sleep(20);
  return Number(output.split('\n')[1]);
}

/** A zombie that nobody has collected yet is not running. */
function isRunning(pid: number): boolean {
  try {
    return !/^\d+ \(.*\) [ZX]/s.test(fs.readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch {
    return false;
  }
}

test('whoever kills the launcher gets no child without a sandbox for it', { skip: !isLinux }, async () => {
  const before = new Set(runningChildren());
  const launched = launchChild({ script: path.join(FIXTURES, 'echo.ts') });
  const outcome = launched.then(
    (child) => child,
    (error: unknown) => error,
  );
  let killed = 0;
  for (const begun = performance.now(); killed === 0 && performance.now() - begun < 5000; await sleep(1)) {
    for (const pid of runningChildren().filter((child) => !before.has(child))) {
      process.kill(pid, 'SIGKILL');
      killed++;
    }
  }
  assert.equal(killed, 1);
  await assert.rejects(
    outcome.then((result) => {
      if (result instanceof Error) throw result;
    }),
    { code: 'ENGINE_FAILED', message: /ended by SIGKILL before it began/ },
  );
  assert.deepEqual(
    runningChildren().filter((child) => !before.has(child)),
    [],
  );
});

function runningChildren(): number[] {
  const pids = fs
    .readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number);
  return pids.filter((pid) => {
    if (!isRunning(pid)) return false;
    const [, parent] = /^\d+ \(.*\) \S (\d+)/s.exec(fs.readFileSync(`/proc/${pid}/stat`, 'utf8')) ?? [];
    return Number(parent) === process.pid;
  });
}

async function waitUntil(isTrue: () => boolean, otherwise: string): Promise<void> {
  for (const start = performance.now(); !isTrue(); await sleep(20)) {
    assert.ok(performance.now() - start < 1000, `after a second: ${otherwise}`);
  }
}

async function failOnExit(child: Awaited<ReturnType<typeof launchChild>>): Promise<never> {
  await once(child.process, 'close');
  throw new Error(`the child ended: ${child.stderrTail()}`);
}

function sleep(durationMs: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, durationMs));
}
