/** Machine architectures for which the numbers below were read from the kernel's own tables. */
export type Architecture = 'x64' | 'arm64';

/** `AUDIT_ARCH_*` of `linux/audit.h`: ELF machine, 64 bit, little-endian. */
export const AUDIT_ARCHITECTURE: Readonly<Record<Architecture, number>> = {
  x64: 0xc000003e,
  arm64: 0xc00000b7,
};

/** @param name as `process.arch` says it @returns undefined where there is no table: the child then has no filter */
export function parseArchitecture(name: string): Architecture | undefined {
  return name === 'x64' || name === 'arm64' ? name : undefined;
}

type Numbers = readonly [x64: number | null, arm64: number | null];

/** New calls have had one number on every architecture since Linux 5.1 (424 and above). */
const both = (number: number): Numbers => [number, number];

/**
 * System calls that a model process never needs, by what they could be abused for. The columns are
 * `arch/x86/entry/syscalls/syscall_64.tbl` and `include/uapi/asm-generic/unistd.h`; null: does not exist there.
 */
export const REFUSED_CALLS: Readonly<Record<string, Readonly<Record<string, Numbers>>>> = {
  // The channel is inherited and used by read and write only, so no socket call is left over.
  network: {
    socket: [41, 198],
    socketpair: [53, 199],
    connect: [42, 203],
    bind: [49, 200],
    listen: [50, 201],
    accept: [43, 202],
    accept4: [288, 242],
    sendto: [44, 206],
    sendmsg: [46, 211],
    sendmmsg: [307, 269],
    recvmsg: [47, 212],
    recvmmsg: [299, 243],
    setsockopt: [54, 208],
  },
  'other processes': {
    ptrace: [101, 117],
    process_vm_readv: [310, 270],
    process_vm_writev: [311, 271],
    process_madvise: both(440),
    process_mrelease: both(448),
    kcmp: [312, 272],
    pidfd_open: both(434),
    pidfd_getfd: both(438),
    pidfd_send_signal: both(424),
    fork: [57, null],
    vfork: [58, null],
    // Its target is a thread id, which cannot be compared with the own process; glibc uses tgkill.
    tkill: [200, 130],
    setpriority: [141, 140],
    ioprio_set: [251, 30],
    migrate_pages: [256, 238],
    move_pages: [279, 239],
  },
  // System V and POSIX queues and shared memory join processes of one user; Landlock does not know them.
  'shared objects': {
    shmget: [29, 194],
    shmat: [30, 196],
    shmctl: [31, 195],
    shmdt: [67, 197],
    semget: [64, 190],
    semop: [65, 193],
    semctl: [66, 191],
    semtimedop: [220, 192],
    msgget: [68, 186],
    msgsnd: [69, 189],
    msgrcv: [70, 188],
    msgctl: [71, 187],
    mq_open: [240, 180],
    mq_unlink: [241, 181],
    mq_timedsend: [242, 182],
    mq_timedreceive: [243, 183],
    mq_notify: [244, 184],
    mq_getsetattr: [245, 185],
  },
  // Landlock leaves owner, mode, times, attributes and (before ABI 3) truncation of every file open to its owner.
  'file metadata': {
    chmod: [90, null],
    fchmod: [91, 52],
    fchmodat: [268, 53],
    fchmodat2: both(452),
    chown: [92, null],
    lchown: [94, null],
    fchown: [93, 55],
    fchownat: [260, 54],
    utime: [132, null],
    utimes: [235, null],
    futimesat: [261, null],
    utimensat: [280, 88],
    setxattr: [188, 5],
    lsetxattr: [189, 6],
    fsetxattr: [190, 7],
    removexattr: [197, 14],
    lremovexattr: [198, 15],
    fremovexattr: [199, 16],
    truncate: [76, 45],
    mknod: [133, null],
    mknodat: [259, 33],
    inotify_init: [253, null],
    inotify_init1: [294, 26],
    inotify_add_watch: [254, 27],
    fanotify_init: [300, 262],
    fanotify_mark: [301, 263],
    name_to_handle_at: [303, 264],
    open_by_handle_at: [304, 265],
  },
  // Rarely used, often exploited; personality switches address randomisation off.
  'kernel interfaces': {
    bpf: [321, 280],
    perf_event_open: [298, 241],
    userfaultfd: [323, 282],
    io_uring_setup: both(425),
    io_uring_enter: both(426),
    io_uring_register: both(427),
    add_key: [248, 217],
    request_key: [249, 218],
    keyctl: [250, 219],
    personality: [135, 92],
    modify_ldt: [154, null],
    uselib: [134, null],
    lookup_dcookie: [212, 18],
  },
  // As root these change the machine; for an ordinary user they are attack surface.
  administration: {
    mount: [165, 40],
    umount2: [166, 39],
    pivot_root: [155, 41],
    chroot: [161, 51],
    open_tree: both(428),
    move_mount: both(429),
    fsopen: both(430),
    fsconfig: both(431),
    fsmount: both(432),
    fspick: both(433),
    mount_setattr: both(442),
    statmount: both(457),
    listmount: both(458),
    unshare: [272, 97],
    setns: [308, 268],
    kexec_load: [246, 104],
    kexec_file_load: [320, 294],
    create_module: [174, null],
    init_module: [175, 105],
    finit_module: [313, 273],
    delete_module: [176, 106],
    query_module: [178, null],
    swapon: [167, 224],
    swapoff: [168, 225],
    reboot: [169, 142],
    acct: [163, 89],
    quotactl: [179, 60],
    quotactl_fd: both(443),
    settimeofday: [164, 170],
    clock_settime: [227, 112],
    clock_adjtime: [305, 266],
    adjtimex: [159, 171],
    sethostname: [170, 161],
    setdomainname: [171, 162],
    iopl: [172, null],
    ioperm: [173, null],
    syslog: [103, 116],
    vhangup: [153, 58],
    nfsservctl: [180, 42],
    sysfs: [139, null],
    ustat: [136, null],
  },
};

/** Calls that are judged by their arguments, or that the launcher itself makes. */
const CALLS = {
  open: [2, null],
  openat: [257, 56],
  openat2: both(437),
  ioctl: [16, 29],
  fcntl: [72, 25],
  clone: [56, 220],
  clone3: both(435),
  execve: [59, 221],
  execveat: [322, 281],
  kill: [62, 129],
  tgkill: [234, 131],
  rt_sigqueueinfo: [129, 138],
  rt_tgsigqueueinfo: [297, 240],
  prlimit64: [302, 261],
  prctl: [157, 167],
  capset: [126, 91],
  seccomp: [317, 277],
} as const satisfies Readonly<Record<string, Numbers>>;

/** Landlock came after the common list began: one number everywhere, also where there is no table above. */
export const LANDLOCK_CALLS = { createRuleset: 444, addRule: 445, restrictSelf: 446 } as const;

/**
 * `mseal`, the last call whose meaning is judged here. Newer ones are answered with ENOSYS, as an older kernel would:
 * what nobody has looked at yet is not allowed.
 */
export const KNOWN_CALL_MAX = 462;

export type CallName = keyof typeof CALLS;

/** The number of a call, or undefined where the architecture has no such call. */
export function callNumber(architecture: Architecture, name: CallName): number | undefined {
  const numbers: Numbers = CALLS[name];
  return columnOf(architecture, numbers);
}

/** The numbers of all refused calls, ascending. */
export function refusedCallNumbers(architecture: Architecture): readonly number[] {
  return Object.values(REFUSED_CALLS)
    .flatMap((group) => Object.values(group))
    .map((numbers) => columnOf(architecture, numbers))
    .filter((number) => number !== undefined)
    .toSorted((left, right) => left - right);
}

function columnOf(architecture: Architecture, numbers: Numbers): number | undefined {
  return numbers[architecture === 'x64' ? 0 : 1] ?? undefined;
}
