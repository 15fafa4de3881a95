import { createHash } from 'node:crypto';

/** An inode: what it is outlives its names. */
export type NodeId = number;

/** File systems write whole blocks; within one, old and new never mix. */
export const BLOCK_BYTES = 4096;
/** A longer write is taken to tear at this many places, evenly spread: 2 × as many effects is what one can enumerate. */
const TEARS_MAX = 8;

export type DiskNode =
  | { readonly kind: 'folder'; readonly mode: number; readonly entries: ReadonlyMap<string, NodeId> }
  | { readonly kind: 'file'; readonly mode: number; readonly bytes: Buffer };

/** A whole disk: everything reachable from the root folder. */
export interface Disk {
  readonly root: NodeId;
  readonly nodes: ReadonlyMap<NodeId, DiskNode>;
}

/**
 * The smallest part of a change that a crash keeps or loses by itself. Of two effects on one thing the later wins, if it
 * is kept.
 */
export type Effect =
  /** A name in a folder now means this inode, or nothing. */
  | {
      readonly kind: 'entry';
      readonly node: NodeId;
      readonly name: string;
      readonly child: NodeId | undefined;
      /** Index of an effect without which this one is never seen: a rename does not remove before it adds. */
      readonly needs?: number;
    }
  | { readonly kind: 'size'; readonly node: NodeId; readonly sizeBytes: number }
  | { readonly kind: 'block'; readonly node: NodeId; readonly offset: number; readonly bytes: Buffer }
  | { readonly kind: 'mode'; readonly node: NodeId; readonly mode: number };

/** Effects on this inode with an index below `before` are safe from now on. */
export interface Flush {
  readonly node: NodeId;
  readonly before: number;
}

/** One recorded call. */
export interface Step {
  /** `rename store/tmp/1-ab store/index.json`: for messages. */
  readonly label: string;
  /** So many effects had been caused when it was over. */
  readonly effects: number;
  readonly flush?: Flush;
}

/** What an operation did to a disk. */
export interface DiskRecord {
  /** Before the first step; all of it durable but for what `effects` of earlier operations hold. */
  readonly initial: Disk;
  readonly steps: readonly Step[];
  readonly effects: readonly Effect[];
  /** Files and folders that came into being meanwhile, empty. */
  readonly born: ReadonlyMap<NodeId, { readonly kind: 'file' | 'folder'; readonly mode: number }>;
}

/** Effects of a write at `offset` into a file of `sizeBytes`: each block's bytes, and the sizes on the way. */
export function writeEffects(node: NodeId, offset: number, bytes: Buffer, sizeBytes: number): Effect[] {
  const blocks = Math.ceil(bytes.byteLength / BLOCK_BYTES);
  const pieceBytes = Math.ceil(blocks / TEARS_MAX) * BLOCK_BYTES;
  const effects: Effect[] = [];
  for (let start = 0; start < bytes.byteLength; ) {
    // Up to the next border of a block, whatever the offset.
    const end = Math.min(bytes.byteLength, start + pieceBytes - ((offset + start) % BLOCK_BYTES));
    if (offset + end > sizeBytes) effects.push({ kind: 'size', node, sizeBytes: offset + end });
    effects.push({ kind: 'block', node, offset: offset + start, bytes: bytes.subarray(start, end) });
    start = end;
  }
  return effects;
}

/** Which effects the first `steps` steps made durable. */
export function durableAfter(record: DiskRecord, steps: number): boolean[] {
  const durable: boolean[] = new Array(effectsAfter(record, steps)).fill(false);
  for (const { flush } of record.steps.slice(0, steps)) {
    if (flush === undefined) continue;
    for (let index = 0; index < flush.before; index++) {
      if (record.effects[index]?.node === flush.node) keep(record, durable, index);
    }
  }
  return durable;
}

function keep({ effects }: DiskRecord, kept: boolean[], index: number): void {
  kept[index] = true;
  const effect = effects[index];
  if (effect?.kind === 'entry' && effect.needs !== undefined)
    keep({ effects } as DiskRecord, kept, effect.needs);
}

export function effectsAfter(record: DiskRecord, steps: number): number {
  return steps === 0 ? 0 : (record.steps[steps - 1]?.effects ?? 0);
}

/** One file or folder of a tree, by its path below the root. */
export interface TreeNode {
  readonly path: string;
  readonly kind: 'file' | 'folder';
  readonly mode: number;
  /** Equal for two names of one file. */
  readonly node: NodeId;
  /** Empty for a folder. */
  readonly content: FileContent;
}

export interface FileContent {
  readonly digest: string;
  readonly bytes: Buffer;
}

/** What is on the disk, folders before what is in them, names in order; `key` is equal for equal trees. */
export interface Tree {
  readonly key: string;
  readonly nodes: readonly TreeNode[];
}

const NO_CONTENT: FileContent = { digest: '', bytes: Buffer.alloc(0) };

/** Makes trees of a record; keeps the contents of files that it has seen, since most trees share most of them. */
export class TreeBuilder {
  readonly #record: DiskRecord;
  readonly #contents = new Map<string, FileContent>();

  constructor(record: DiskRecord) {
    this.#record = record;
  }

  /** The tree if of all effects exactly those are on the disk for which `kept` is true; `needs` is seen to here. */
  build(wanted: readonly boolean[]): Tree {
    const { effects, initial } = this.#record;
    const entries = new Map<NodeId, Map<string, NodeId>>();
    const modes = new Map<NodeId, number>();
    const changes = new Map<NodeId, number[]>();
    for (const [index, isKept] of wanted.entries()) {
      const effect = effects[index];
      if (!isKept || effect === undefined) continue;
      if (effect.kind === 'entry') {
        if (effect.needs !== undefined && wanted[effect.needs] !== true) continue;
        const folder = entries.get(effect.node) ?? new Map(this.#initialEntries(effect.node));
        entries.set(effect.node, folder);
        if (effect.child === undefined) folder.delete(effect.name);
        else folder.set(effect.name, effect.child);
      } else if (effect.kind === 'mode') {
        modes.set(effect.node, effect.mode);
      } else {
        changes.set(effect.node, [...(changes.get(effect.node) ?? []), index]);
      }
    }
    const nodes: TreeNode[] = [];
    const visit = (node: NodeId, path: string) => {
      const before = initial.nodes.get(node) ?? this.#record.born.get(node);
      if (before === undefined) throw new Error(`no inode ${node}`);
      const mode = modes.get(node) ?? before.mode;
      if (before.kind === 'file') {
        nodes.push({ path, kind: 'file', mode, node, content: this.#content(node, changes.get(node) ?? []) });
        return;
      }
      nodes.push({ path, kind: 'folder', mode, node, content: NO_CONTENT });
      const names = entries.get(node) ?? this.#initialEntries(node);
      for (const [name, child] of [...names].sort(([left], [right]) => (left < right ? -1 : 1))) {
        visit(child, path === '' ? name : `${path}/${name}`);
      }
    };
    visit(initial.root, '');
    return { key: treeKey(nodes), nodes };
  }

  #initialEntries(node: NodeId): ReadonlyMap<string, NodeId> {
    const found = this.#record.initial.nodes.get(node);
    return found?.kind === 'folder' ? found.entries : new Map();
  }

  #content(node: NodeId, indices: readonly number[]): FileContent {
    const key = `${node}:${indices.join()}`;
    const known = this.#contents.get(key);
    if (known !== undefined) return known;
    const found = this.#record.initial.nodes.get(node);
    const bytes = applyToFile(
      found?.kind === 'file' ? found.bytes : NO_CONTENT.bytes,
      indices.map((index) => this.#record.effects[index]),
    );
    const content = { bytes, digest: createHash('sha256').update(bytes).digest('hex') };
    this.#contents.set(key, content);
    return content;
  }
}

/** Equal for equal trees: names, kinds, modes, contents, and which names are of one file. */
export function treeKey(nodes: readonly TreeNode[]): string {
  const firstNames = new Map<NodeId, string>();
  const hash = createHash('sha256');
  for (const { path, kind, mode, node, content } of nodes) {
    const firstName = firstNames.get(node) ?? path;
    firstNames.set(node, firstName);
    hash.update(JSON.stringify([path, kind, mode & 0o7777, content.digest, firstName]));
  }
  return hash.digest('hex');
}

function applyToFile(before: Buffer, effects: readonly (Effect | undefined)[]): Buffer {
  let capacity = before.byteLength;
  for (const effect of effects) {
    if (effect?.kind === 'block') capacity = Math.max(capacity, effect.offset + effect.bytes.byteLength);
    if (effect?.kind === 'size') capacity = Math.max(capacity, effect.sizeBytes);
  }
  const bytes = Buffer.alloc(capacity);
  before.copy(bytes);
  let { byteLength: sizeBytes } = before;
  for (const effect of effects) {
    if (effect?.kind === 'block') effect.bytes.copy(bytes, effect.offset);
    if (effect?.kind !== 'size') continue;
    // What is cut off does not come back when the file grows again.
    if (effect.sizeBytes < sizeBytes) bytes.fill(0, effect.sizeBytes);
    sizeBytes = effect.sizeBytes;
  }
  return bytes.subarray(0, sizeBytes);
}
