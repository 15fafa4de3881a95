/** What a rule grants on one file, or on a folder with all that lies below. */
export type Grant = 'read' | 'execute' | 'device' | 'write';

export interface PathRule {
  readonly path: string;
  readonly grant: Grant;
}

/** Bits of `LANDLOCK_ACCESS_FS_*`, `linux/landlock.h`. */
const EXECUTE = 1n << 0n;
const WRITE_FILE = 1n << 1n;
const READ_FILE = 1n << 2n;
const READ_DIR = 1n << 3n;
const REMOVE_FILE = 1n << 5n;
const MAKE_REG = 1n << 8n;
const TRUNCATE = 1n << 14n;

/** Number of file system rights by the ABI that introduced the last of them, newest first. */
const FILE_RIGHTS_BY_ABI = [
  [9, 17], // RESOLVE_UNIX
  [5, 16], // IOCTL_DEV
  [3, 15], // TRUNCATE
  [2, 14], // REFER
  [1, 13],
] as const;

/** Same for the network: TCP bind and connect, then UDP bind and connect or send. */
const NETWORK_RIGHTS_BY_ABI = [
  [10, 4],
  [4, 2],
] as const;

/** Connecting to abstract UNIX sockets and signalling processes outside of the sandbox. */
const SCOPES_BY_ABI = [[6, 2]] as const;

/** Everything that this ABI can refuse, so that nothing is left open by not being named. */
export function handledFileRights(abi: number): bigint {
  return allBits(FILE_RIGHTS_BY_ABI, abi);
}

/** `struct landlock_ruleset_attr`, as long as this ABI knows it: u64 files, u64 network, u64 scopes. */
export function encodeRuleset(abi: number): Buffer {
  const bytes = Buffer.alloc(24);
  bytes.writeBigUInt64LE(handledFileRights(abi), 0);
  bytes.writeBigUInt64LE(allBits(NETWORK_RIGHTS_BY_ABI, abi), 8);
  bytes.writeBigUInt64LE(allBits(SCOPES_BY_ABI, abi), 16);
  return bytes.subarray(0, abi >= 6 ? 24 : abi >= 4 ? 16 : 8);
}

/** `struct landlock_path_beneath_attr`, packed: u64 rights, s32 descriptor of the file or folder. */
export function encodePathRule(abi: number, grant: Grant, isFolder: boolean, fd: number): Buffer {
  const bytes = Buffer.alloc(12);
  bytes.writeBigUInt64LE(grantedRights(grant, isFolder) & handledFileRights(abi), 0);
  bytes.writeInt32LE(fd, 8);
  return bytes;
}

/** The kernel refuses rights on a file that only a folder can have. */
function grantedRights(grant: Grant, isFolder: boolean): bigint {
  const folderRights = isFolder ? READ_DIR : 0n;
  switch (grant) {
    case 'read':
      return READ_FILE | folderRights;
    case 'execute':
      return READ_FILE | EXECUTE;
    case 'device':
      return READ_FILE | WRITE_FILE;
    case 'write':
      // New regular files, and renaming or removing them; no folders, links, sockets or devices.
      return READ_FILE | WRITE_FILE | TRUNCATE | folderRights | (isFolder ? MAKE_REG | REMOVE_FILE : 0n);
  }
}

function allBits(table: readonly (readonly [abi: number, bits: number])[], abi: number): bigint {
  const row = table.find(([since]) => abi >= since);
  return row === undefined ? 0n : (1n << BigInt(row[1])) - 1n;
}
