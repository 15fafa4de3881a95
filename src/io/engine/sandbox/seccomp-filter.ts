import {
  type Architecture,
  AUDIT_ARCHITECTURE,
  type CallName,
  callNumber,
  KNOWN_CALL_MAX,
  refusedCallNumbers,
} from './syscall-table.ts';

/** `BPF_MAXINSNS`: the kernel refuses longer programs. */
export const INSTRUCTIONS_MAX = 4096;

/** `struct sock_filter`: u16 code, u8 jump if true, u8 jump if false, u32 operand. */
type Instruction = readonly [code: number, jumpTrue: number, jumpFalse: number, operand: number];

// Classic BPF as seccomp(2) takes it: `linux/bpf_common.h`, `linux/seccomp.h`.
const LOAD = 0x20;
const AND = 0x54;
const JUMP_EQUAL = 0x15;
const JUMP_GREATER = 0x25;
const JUMP_ANY_BIT = 0x45;
const RETURN = 0x06;
const ALLOW = 0x7fff0000;
const KILL_PROCESS = 0x80000000;
const ERRNO = 0x00050000;
const EPERM = 1;
const ENOSYS = 38;

// `struct seccomp_data`: int nr, u32 arch, u64 instruction pointer, u64 args[6]; little-endian on both architectures.
const NUMBER_OFFSET = 0;
const ARCHITECTURE_OFFSET = 4;
const argumentLow = (index: number): number => 16 + 8 * index;
const argumentHigh = (index: number): number => argumentLow(index) + 4;

/** Set in the number of every call of the x32 ABI, whose table would bypass ours. */
const X32_BIT = 0x40000000;

const CLONE_THREAD = 0x00010000;
/** CLONE_NEWTIME, NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET. */
const CLONE_NAMESPACES = 0x7e020080;
const O_TRUNC = 0o1000;
const O_ACCMODE = 0o3;

/**
 * What Node and terminals' `isatty` ask for. Everything else is refused: typing into a terminal (TIOCSTI, TIOCLINUX),
 * the table of network interfaces through the channel's socket (SIOCGIF…), file flags that need no write permission
 * (FS_IOC_SETFLAGS), sending signals to others (FIOSETOWN).
 */
const IOCTLS_ALLOWED = {
  TCGETS: 0x5401,
  TCGETS2: 0x802c542a,
  TIOCGWINSZ: 0x5413,
  FIONREAD: 0x541b,
  FIONBIO: 0x5421,
  FIONCLEX: 0x5450,
  FIOCLEX: 0x5451,
} as const;

/** Owners and leases make the kernel signal another process; notifications watch folders that cannot be read. */
const FCNTLS_REFUSED = {
  F_SETOWN: 8,
  F_SETSIG: 10,
  F_SETOWN_EX: 15,
  F_SETLEASE: 1024,
  F_NOTIFY: 1026,
} as const;

/** What would undo stage 2: outliving the parent, being dumpable or traceable again, another `/proc/self/exe`. */
const PRCTLS_REFUSED = {
  PR_SET_PDEATHSIG: 1,
  PR_SET_DUMPABLE: 4,
  PR_SET_MM: 35,
  PR_SET_PTRACER: 0x59616d61,
} as const;

/**
 * Stage 1: everything but `execve`, which the launcher still needs. `ownPid` is the process that calls it; it keeps its
 * id through `execve`, so that signals can be allowed to itself only.
 * @returns an array of `struct sock_filter`
 */
export function encodeLauncherFilter(architecture: Architecture, ownPid: number): Buffer {
  const number = (name: CallName): number | undefined => callNumber(architecture, name);
  return encodeProgram([
    ...architectureGuard(architecture),
    ...refusedCallNumbers(architecture).flatMap((refused) => onCall(refused, [refuse(EPERM)])),
    ...onCall(number('open'), truncatingReadRefused(1)),
    ...onCall(number('openat'), truncatingReadRefused(2)),
    // Their arguments lie in memory, which a filter cannot read; callers fall back to openat and clone.
    ...onCall(number('openat2'), [refuse(ENOSYS)]),
    ...onCall(number('clone3'), [refuse(ENOSYS)]),
    ...onCall(number('clone'), threadsOnly()),
    ...onCall(number('ioctl'), argumentAmong(1, Object.values(IOCTLS_ALLOWED), allow(), refuse(EPERM))),
    ...onCall(number('fcntl'), argumentAmong(1, Object.values(FCNTLS_REFUSED), refuse(EPERM), allow())),
    ...onCall(number('prlimit64'), argumentAmong(0, [0, ownPid], allow(), refuse(EPERM))),
    ...(['kill', 'tgkill', 'rt_sigqueueinfo', 'rt_tgsigqueueinfo'] as const).flatMap((name) =>
      onCall(number(name), argumentAmong(0, [ownPid], allow(), refuse(EPERM))),
    ),
    allow(),
  ]);
}

/** Stage 2: no other program, and no way back. */
export function encodeSealingFilter(architecture: Architecture): Buffer {
  const number = (name: CallName): number | undefined => callNumber(architecture, name);
  return encodeProgram([
    ...architectureGuard(architecture),
    ...onCall(number('execve'), [refuse(EPERM)]),
    ...onCall(number('execveat'), [refuse(EPERM)]),
    ...onCall(number('prctl'), argumentAmong(0, Object.values(PRCTLS_REFUSED), refuse(EPERM), allow())),
    allow(),
  ]);
}

const allow = (): Instruction => [RETURN, 0, 0, ALLOW];
const refuse = (errno: number): Instruction => [RETURN, 0, 0, ERRNO | errno];

/** Numbers mean nothing until the calling convention is known; leaves the number in the accumulator. */
function architectureGuard(architecture: Architecture): Instruction[] {
  return [
    [LOAD, 0, 0, ARCHITECTURE_OFFSET],
    [JUMP_EQUAL, 1, 0, AUDIT_ARCHITECTURE[architecture]],
    [RETURN, 0, 0, KILL_PROCESS],
    [LOAD, 0, 0, NUMBER_OFFSET],
    [JUMP_ANY_BIT, 0, 1, X32_BIT],
    [RETURN, 0, 0, KILL_PROCESS],
    [JUMP_GREATER, 0, 1, KNOWN_CALL_MAX],
    refuse(ENOSYS),
  ];
}

/** Runs `block`, which must end in a return, when the accumulator holds this call's number. */
function onCall(number: number | undefined, block: readonly Instruction[]): Instruction[] {
  if (number === undefined) return [];
  return [[JUMP_EQUAL, 0, block.length, number], ...block];
}

/**
 * Chooses by the low half of an argument. All arguments compared this way are `int` in the kernel, which ignores the
 * high half; whoever sets it gains nothing.
 */
function argumentAmong(
  index: number,
  values: readonly number[],
  found: Instruction,
  otherwise: Instruction,
): Instruction[] {
  const tests = values.map(
    (value, position): Instruction => [JUMP_EQUAL, values.length - position, 0, value >>> 0],
  );
  return [[LOAD, 0, 0, argumentLow(index)], ...tests, otherwise, found];
}

/** Before Landlock ABI 3, opening for reading with O_TRUNC empties a file that may only be read. */
function truncatingReadRefused(flagsIndex: number): Instruction[] {
  return [
    [LOAD, 0, 0, argumentLow(flagsIndex)],
    [AND, 0, 0, O_TRUNC | O_ACCMODE],
    [JUMP_EQUAL, 0, 1, O_TRUNC],
    refuse(EPERM),
    allow(),
  ];
}

/** New threads of this process, but no new process and no namespace. */
function threadsOnly(): Instruction[] {
  return [
    [LOAD, 0, 0, argumentHigh(0)],
    [JUMP_EQUAL, 0, 3, 0],
    [LOAD, 0, 0, argumentLow(0)],
    [JUMP_ANY_BIT, 1, 0, CLONE_NAMESPACES],
    [JUMP_ANY_BIT, 1, 0, CLONE_THREAD],
    refuse(EPERM),
    allow(),
  ];
}

function encodeProgram(instructions: readonly Instruction[]): Buffer {
  if (instructions.length > INSTRUCTIONS_MAX) throw new RangeError('seccomp filter too long');
  const bytes = Buffer.alloc(instructions.length * 8);
  for (const [index, [code, jumpTrue, jumpFalse, operand]] of instructions.entries()) {
    bytes.writeUInt16LE(code, index * 8);
    bytes.writeUInt8(jumpTrue, index * 8 + 2);
    bytes.writeUInt8(jumpFalse, index * 8 + 3);
    bytes.writeUInt32LE(operand >>> 0, index * 8 + 4);
  }
  return bytes;
}
