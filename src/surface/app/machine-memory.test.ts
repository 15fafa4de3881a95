import assert from 'node:assert/strict';
import os from 'node:os';
import { test } from 'node:test';
import { readMachineMemory } from './machine-memory.ts';

const GIB = 2 ** 30;
const machine = { totalBytes: 16 * GIB, freeBytes: 1 * GIB };
const meminfo = `MemTotal:       16777216 kB\nMemFree: 100 kB\nMemAvailable:    8388608 kB\n`;

const reading = (files: Readonly<Record<string, string>>) =>
  readMachineMemory(async (file) => files[file], machine);

test('without control groups, the machine is the limit', async () => {
  assert.deepEqual(await reading({ '/proc/meminfo': meminfo }), {
    limitBytes: 16 * GIB,
    availableBytes: 8 * GIB,
  });
  assert.deepEqual(await reading({}), { limitBytes: 16 * GIB, availableBytes: 1 * GIB });
});

test('version 2: the strictest group of the whole branch, with pages of files as available', async () => {
  const files = {
    '/proc/meminfo': meminfo,
    '/proc/self/cgroup': '0::/system.slice/app.service\n',
    '/sys/fs/cgroup/system.slice/app.service/memory.max': 'max\n',
    '/sys/fs/cgroup/system.slice/app.service/memory.current': '1000\n',
    '/sys/fs/cgroup/system.slice/memory.max': `${4 * GIB}\n`,
    '/sys/fs/cgroup/system.slice/memory.high': 'max\n',
    '/sys/fs/cgroup/system.slice/memory.current': `${3 * GIB}\n`,
    '/sys/fs/cgroup/system.slice/memory.stat': `anon 1\ninactive_file ${GIB}\nactive_file ${GIB / 2}\nfile 5\n`,
  };
  assert.deepEqual(await reading(files), { limitBytes: 4 * GIB, availableBytes: 2.5 * GIB });
  const high = { ...files, '/sys/fs/cgroup/system.slice/memory.high': `${2 * GIB}\n` };
  assert.deepEqual(await reading(high), { limitBytes: 2 * GIB, availableBytes: GIB / 2 });
});

test('version 1, in a container that sees a path of the machine outside', async () => {
  const files = {
    '/proc/meminfo': meminfo,
    '/proc/self/cgroup': '9:cpu:/docker/abc\n4:hugetlb,memory:/docker/abc\n0::/\n',
    '/sys/fs/cgroup/memory/memory.limit_in_bytes': `${2 * GIB}\n`,
    '/sys/fs/cgroup/memory/memory.usage_in_bytes': `${GIB}\n`,
    '/sys/fs/cgroup/memory/memory.stat': `total_inactive_file ${GIB / 4}\ntotal_active_file 0\n`,
  };
  assert.deepEqual(await reading(files), { limitBytes: 2 * GIB, availableBytes: 1.25 * GIB });
  const unlimited = { ...files, '/sys/fs/cgroup/memory/memory.limit_in_bytes': '9223372036854771712\n' };
  assert.deepEqual(await reading(unlimited), { limitBytes: 16 * GIB, availableBytes: 8 * GIB });
});

test('a group that uses more than its limit leaves nothing, not less', async () => {
  const files = {
    '/proc/self/cgroup': '0::/\n',
    '/sys/fs/cgroup/memory.max': '1000',
    '/sys/fs/cgroup/memory.current': '2000',
  };
  assert.deepEqual(await reading(files), { limitBytes: 1000, availableBytes: 0 });
});

test('this machine', async () => {
  const { limitBytes, availableBytes } = await readMachineMemory();
  assert.ok(limitBytes > 0 && limitBytes <= os.totalmem());
  assert.ok(availableBytes > 0 && availableBytes <= limitBytes);
});
