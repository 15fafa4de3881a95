import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { encodeLauncherFilter, encodeSealingFilter, INSTRUCTIONS_MAX } from './seccomp-filter.ts';
import { type Architecture, REFUSED_CALLS, refusedCallNumbers } from './syscall-table.ts';

const ALLOW = 0x7fff0000;
const EPERM = 0x00050001;
const ENOSYS = 0x00050026;
const KILL = 0x80000000;
const OWN_PID = 4711;

interface Call {
  readonly number: number;
  readonly machine: number;
  readonly args: readonly bigint[];
}

/** The subset of classic BPF that the filters use, as `kernel/seccomp.c` and `net/core/filter.c` define it. */
function evaluate(program: Buffer, call: Call): number {
  const data = Buffer.alloc(64);
  data.writeUInt32LE(call.number >>> 0, 0);
  data.writeUInt32LE(call.machine >>> 0, 4);
  for (const [index, value] of call.args.entries())
    data.writeBigUInt64LE(BigInt.asUintN(64, value), 16 + 8 * index);
  let accumulator = 0;
  for (let counter = 0; ; counter++) {
    const at = counter * 8;
    assert.ok(at < program.length, 'the program runs past its end');
    const operand = program.readUInt32LE(at + 4);
    const jump = (condition: boolean): void => {
      counter += program.readUInt8(at + (condition ? 2 : 3));
    };
    switch (program.readUInt16LE(at)) {
      case 0x20:
        accumulator = data.readUInt32LE(operand);
        break;
      case 0x54:
        accumulator = (accumulator & operand) >>> 0;
        break;
      case 0x15:
        jump(accumulator === operand);
        break;
      case 0x25:
        jump(accumulator > operand);
        break;
      case 0x45:
        jump((accumulator & operand) !== 0);
        break;
      case 0x06:
        return operand;
      default:
        assert.fail(`unknown instruction at ${counter}`);
    }
  }
}

/** Written down independently of the table: what is needed, and what is judged by arguments. */
const MACHINES = {
  x64: {
    machine: 0xc000003e,
    needed: { read: 0, write: 1, close: 3, mmap: 9, readv: 19, exit: 60, futex: 202, statx: 332, rseq: 334 },
    calls: {
      openat: 257,
      ioctl: 16,
      fcntl: 72,
      clone: 56,
      kill: 62,
      tgkill: 234,
      prlimit64: 302,
      prctl: 157,
    },
    execve: [59, 322],
    header: '/usr/include/x86_64-linux-gnu/asm/unistd_64.h',
  },
  arm64: {
    machine: 0xc00000b7,
    needed: {
      read: 63,
      write: 64,
      close: 57,
      mmap: 222,
      readv: 65,
      exit: 93,
      futex: 98,
      statx: 291,
      rseq: 293,
    },
    calls: {
      openat: 56,
      ioctl: 29,
      fcntl: 25,
      clone: 220,
      kill: 129,
      tgkill: 131,
      prlimit64: 261,
      prctl: 167,
    },
    execve: [221, 281],
    header: '/usr/include/asm-generic/unistd.h',
  },
} as const;

for (const architecture of ['x64', 'arm64'] satisfies Architecture[]) {
  const { machine, needed, calls, execve, header } = MACHINES[architecture];
  const first = encodeLauncherFilter(architecture, OWN_PID);
  const second = encodeSealingFilter(architecture);
  const judge = (program: Buffer, number: number, ...args: (number | bigint)[]): number =>
    evaluate(program, { number, machine, args: args.map(BigInt) });

  describe(`the filters for ${architecture}`, () => {
    test('allow what Node lives on, and refuse every row of the table', () => {
      for (const number of Object.values(needed)) {
        assert.equal(judge(first, number), ALLOW);
        assert.equal(judge(second, number), ALLOW);
      }
      for (const number of refusedCallNumbers(architecture))
        assert.equal(judge(first, number), EPERM, `${number}`);
      assert.equal(new Set(refusedCallNumbers(architecture)).size, refusedCallNumbers(architecture).length);
      assert.ok(first.length / 8 < INSTRUCTIONS_MAX);
    });

    test('kill on the calling convention of another machine and on x32', () => {
      fc.assert(
        fc.property(fc.nat(0xffffffff), fc.nat(500), (other, number) => {
          fc.pre(other !== machine);
          for (const program of [first, second])
            assert.equal(evaluate(program, { number, machine: other, args: [] }), KILL);
        }),
      );
      for (const number of [0, 1, 41, 59]) {
        assert.equal(judge(first, number | 0x40000000), KILL);
        assert.equal(judge(second, number | 0x40000000), KILL);
      }
    });

    test('answer calls that came later as an older kernel would', () => {
      for (const number of [463, 467, 600]) assert.equal(judge(first, number), ENOSYS);
      assert.equal(judge(first, 462), ALLOW);
    });

    test('end always, with a verdict of ours', () => {
      const verdicts = new Set([ALLOW, EPERM, ENOSYS, KILL]);
      const word = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n });
      fc.assert(
        fc.property(fc.nat(600), fc.array(word, { maxLength: 6 }), (number, args) => {
          for (const program of [first, second]) {
            assert.ok(verdicts.has(evaluate(program, { number, machine, args })));
          }
        }),
      );
    });

    test('allow new threads, and neither processes nor namespaces', () => {
      const thread = 0x003d0f00;
      assert.equal(judge(first, calls.clone, thread), ALLOW);
      assert.equal(judge(first, calls.clone, 17), EPERM); // fork: SIGCHLD only
      assert.equal(judge(first, calls.clone, 0x4111), EPERM); // vfork
      assert.equal(judge(first, calls.clone, thread | 0x10000000), EPERM); // user namespace
      assert.equal(judge(first, calls.clone, BigInt(thread) | (1n << 33n)), EPERM); // into another cgroup
      assert.equal(judge(first, 435, 0), ENOSYS);
    });

    test('let a process signal and limit itself only', () => {
      assert.equal(judge(first, calls.kill, OWN_PID, 9), ALLOW);
      for (const target of [1, 0, -1, -OWN_PID, OWN_PID + 1])
        assert.equal(judge(first, calls.kill, target, 9), EPERM);
      assert.equal(judge(first, calls.tgkill, OWN_PID, 1, 9), ALLOW);
      assert.equal(judge(first, calls.tgkill, 1, 1, 9), EPERM);
      assert.equal(judge(first, calls.prlimit64, 0, 7), ALLOW);
      assert.equal(judge(first, calls.prlimit64, 1, 7), EPERM);
    });

    test('refuse typing into terminals, interface tables, file flags and owners of descriptors', () => {
      for (const request of [0x5401, 0x5421, 0x5451, 0x541b])
        assert.equal(judge(first, calls.ioctl, 1, request), ALLOW);
      // TIOCSTI, also with garbage in the half that the kernel ignores; TIOCLINUX; SIOCGIFCONF; FS_IOC_SETFLAGS
      for (const request of [0x5412, (1n << 40n) | 0x5412n, 0x541c, 0x8912, 0x40086602]) {
        assert.equal(judge(first, calls.ioctl, 1, request), EPERM);
      }
      assert.equal(judge(first, calls.fcntl, 1, 3), ALLOW);
      assert.equal(judge(first, calls.fcntl, 1, 8), EPERM);
      assert.equal(judge(first, calls.fcntl, 1, 1024), EPERM);
    });

    test('refuse emptying a file that was opened for reading', () => {
      assert.equal(judge(first, calls.openat, -100, 0, 0o1000), EPERM);
      assert.equal(judge(first, calls.openat, -100, 0, 0o2000000), ALLOW);
      assert.equal(judge(first, calls.openat, -100, 0, 0o1101), ALLOW); // for writing: Landlock decides
      assert.equal(judge(first, 437), ENOSYS);
    });

    test('leave execve to the first stage only', () => {
      for (const number of execve) {
        assert.equal(judge(first, number), ALLOW);
        assert.equal(judge(second, number), EPERM);
      }
      for (const option of [1, 4, 35, 0x59616d61]) assert.equal(judge(second, calls.prctl, option), EPERM);
      assert.equal(judge(second, calls.prctl, 15), ALLOW); // PR_SET_NAME
    });

    test('have the numbers of the kernel headers', {
      skip: !existsSync(header) && `${header} is not here`,
    }, () => {
      const numbers = new Map(
        [...readFileSync(header, 'utf8').matchAll(/^#define __NR(?:3264)?_(\w+)\s+(\d+)/gm)].map(
          ([, name, number]) => [name, Number(number)],
        ),
      );
      let compared = 0;
      for (const [name, columns] of Object.values(REFUSED_CALLS).flatMap((group) => Object.entries(group))) {
        const expected = numbers.get(name);
        if (expected === undefined) continue;
        assert.equal(columns[architecture === 'x64' ? 0 : 1], expected, name);
        compared++;
      }
      assert.ok(compared > 90, `${compared} compared`);
    });
  });
}
