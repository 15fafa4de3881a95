import { createRequire } from 'node:module';
import { type Architecture, type CallName, callNumber, LANDLOCK_CALLS } from './syscall-table.ts';

/** A system call that the kernel refused; the message names it and the error number. */
export class KernelRefusal extends Error {
  override readonly name = 'KernelRefusal';
}

/** The few calls that Node does not offer. All act on the calling thread or process. */
export interface Kernel {
  /** @throws KernelRefusal */
  prctl(name: string, option: number, argument: number): void;
  /** 0 when the kernel has no Landlock or does not enable it. */
  landlockAbi(): number;
  /** @returns a descriptor @throws KernelRefusal */
  createRuleset(attributes: Buffer): number;
  /** @throws KernelRefusal */
  addPathRule(ruleset: number, rule: Buffer): void;
  /** @throws KernelRefusal */
  restrictSelf(ruleset: number): void;
  /** With `allThreads` all threads of the process get the filter, or none. @throws KernelRefusal */
  addFilter(architecture: Architecture, program: Buffer, allThreads: boolean): void;
  /** Keeps at most the capabilities in the mask. @throws KernelRefusal */
  limitCapabilities(architecture: Architecture | undefined, mask: bigint): void;
  /** Soft and hard limit at once. @throws KernelRefusal */
  limitResource(architecture: Architecture | undefined, resource: number, value: bigint): void;
  /** Whether execve keeps the descriptor or closes it. @throws KernelRefusal */
  setKeptOnExec(fd: number, isKept: boolean): void;
  /** Opens as a reference only (O_PATH), following links; closed by execve. @throws KernelRefusal */
  openPath(path: string): number;
  /** Becomes another program; returns only by throwing. @throws KernelRefusal */
  execve(path: string, args: readonly string[], env: readonly string[]): never;
}

/** Steps of which each may fail without stopping the next; `failures` says which did and how. */
export class Attempts {
  readonly failures: string[] = [];

  /** @returns whether the step succeeded */
  run(step: () => void): boolean {
    try {
      step();
      return true;
    } catch (error) {
      this.failures.push(error instanceof Error ? error.message : String(error));
      return false;
    }
  }
}

const O_PATH = 0o10000000;
const O_CLOEXEC = 0o2000000;
const F_SETFD = 2;
const FD_CLOEXEC = 1;
const SECCOMP_SET_MODE_FILTER = 1;
const SECCOMP_FILTER_FLAG_TSYNC = 1;
const LANDLOCK_CREATE_RULESET_VERSION = 1;
const LANDLOCK_RULE_PATH_BENEATH = 1;
const CAPABILITY_VERSION_3 = 0x20080522;

type Koffi = typeof import('koffi');
/** Buffers are handed to koffi as such and never as addresses: it keeps them in place during the call. */
type Argument = number | bigint | Buffer | object | null;
type NativeCall = (...args: Argument[]) => number;

/**
 * Loads koffi and binds the calls. Not at import: a machine without koffi's library must still get the plain fallback.
 * @throws Error when koffi cannot be loaded
 */
export function loadKernel(): Kernel {
  const koffi = createRequire(import.meta.url)('koffi') as Koffi;
  // The libc that Node itself runs on, whatever its name.
  const libc = koffi.load(null);
  // glibc and musl have wrappers for few of these calls; `syscall` takes all arguments in registers, like they would.
  const systemCall = (...types: string[]): NativeCall => libc.func('syscall', 'long', ['long', ...types]);
  const pathCalls = bindPathCalls(koffi, libc);
  const requireDone = (result: number, name: string): number => {
    if (result < 0) throw new KernelRefusal(`${name} refused (errno ${koffi.errno()})`);
    return result;
  };
  const numberOf = (architecture: Architecture | undefined, name: CallName): number => {
    const number = architecture === undefined ? undefined : callNumber(architecture, name);
    if (number === undefined) throw new KernelRefusal(`no number of ${name} for ${process.arch}`);
    return number;
  };
  const prctl: NativeCall = libc.func('int prctl(int, ulong, ulong, ulong, ulong)');
  return {
    ...bindLandlock(systemCall, requireDone),
    ...pathCalls,
    prctl: (name, option, argument) => {
      requireDone(prctl(option, argument, 0, 0, 0), name);
    },
    addFilter: (architecture, program, allThreads) => {
      const header = koffi.struct({ length: 'uint16', filter: 'void *' });
      const seccomp = libc.func('syscall', 'long', ['long', 'uint', 'uint', koffi.pointer(header)]);
      const flags = allThreads ? SECCOMP_FILTER_FLAG_TSYNC : 0;
      const number = numberOf(architecture, 'seccomp');
      const fields = { length: program.length / 8, filter: program };
      const result = requireDone(seccomp(number, SECCOMP_SET_MODE_FILTER, flags, fields), 'seccomp');
      // With TSYNC a positive result is the thread that could not follow.
      if (result !== 0) throw new KernelRefusal(`seccomp could not reach thread ${result}`);
    },
    limitCapabilities: (architecture, mask) => {
      const number = numberOf(architecture, 'capset');
      requireDone(systemCall('void *', 'void *')(number, ...encodeCapabilities(mask)), 'capset');
    },
    limitResource: (architecture, resource, value) => {
      const limits = Buffer.alloc(16);
      limits.writeBigUInt64LE(value, 0);
      limits.writeBigUInt64LE(value, 8);
      const number = numberOf(architecture, 'prlimit64');
      requireDone(
        systemCall('int', 'int', 'void *', 'void *')(number, 0, resource, limits, null),
        'prlimit64',
      );
    },
  };
}

function bindLandlock(
  systemCall: (...types: string[]) => NativeCall,
  requireDone: (result: number, name: string) => number,
): Pick<Kernel, 'landlockAbi' | 'createRuleset' | 'addPathRule' | 'restrictSelf'> {
  const { createRuleset, addRule, restrictSelf } = LANDLOCK_CALLS;
  const create = systemCall('void *', 'size_t', 'uint');
  const add = systemCall('int', 'int', 'void *', 'uint');
  return {
    landlockAbi: () => Math.max(0, create(createRuleset, null, 0, LANDLOCK_CREATE_RULESET_VERSION)),
    createRuleset: (attributes) =>
      requireDone(create(createRuleset, attributes, attributes.length, 0), 'landlock_create_ruleset'),
    addPathRule: (ruleset, rule) => {
      requireDone(add(addRule, ruleset, LANDLOCK_RULE_PATH_BENEATH, rule, 0), 'landlock_add_rule');
    },
    restrictSelf: (ruleset) => {
      requireDone(systemCall('int', 'uint')(restrictSelf, ruleset, 0), 'landlock_restrict_self');
    },
  };
}

function bindPathCalls(
  koffi: Koffi,
  libc: ReturnType<Koffi['load']>,
): Pick<Kernel, 'openPath' | 'setKeptOnExec' | 'execve'> {
  const open = libc.func('int open(const char *, int)');
  const fcntl = libc.func('int fcntl(int, int, long)');
  const execve = libc.func('int execve(const char *, const char **, const char **)');
  return {
    openPath: (path) => {
      const fd: number = open(path, O_PATH | O_CLOEXEC);
      if (fd < 0) throw new KernelRefusal(`open ${path} refused (errno ${koffi.errno()})`);
      return fd;
    },
    setKeptOnExec: (fd, isKept) => {
      if (fcntl(fd, F_SETFD, isKept ? 0 : FD_CLOEXEC) < 0) {
        throw new KernelRefusal(`fcntl of descriptor ${fd} refused (errno ${koffi.errno()})`);
      }
    },
    execve: (path, args, env) => {
      execve(path, [...args, null], [...env, null]);
      throw new KernelRefusal(`execve ${path} refused (errno ${koffi.errno()})`);
    },
  };
}

/** `struct __user_cap_header_struct` and, twice (low and high half), u32 effective, permitted, inheritable. */
function encodeCapabilities(mask: bigint): [Buffer, Buffer] {
  const header = Buffer.alloc(8);
  header.writeUInt32LE(CAPABILITY_VERSION_3, 0);
  const sets = Buffer.alloc(24);
  for (const [half, bits] of [mask & 0xffffffffn, mask >> 32n].entries()) {
    sets.writeUInt32LE(Number(bits), half * 12);
    sets.writeUInt32LE(Number(bits), half * 12 + 4);
  }
  return [header, sets];
}
