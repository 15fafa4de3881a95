import fs from 'node:fs';
import path from 'node:path';
import {
  type Disk,
  type DiskRecord,
  type Effect,
  effectsAfter,
  type Flush,
  type NodeId,
  type Step,
  TreeBuilder,
  writeEffects,
} from './disk-model.ts';
import { describeTree, readDisk, readTree } from './disk-tree.ts';
import { type FileCall, type FileCallObserver, watchFileCalls } from './file-calls.ts';

/** An operation that was cut off by a kill, not by a crash: the system still has everything in memory. */
export interface KilledOperation {
  readonly record: DiskRecord;
  /** So many of its steps were done. The watched folder holds what they made. */
  readonly steps: number;
}

export interface RecordOptions {
  readonly grantsReflinks?: boolean;
  readonly after?: KilledOperation;
}

/**
 * Runs work and records what it does to a folder, call by call.
 * @throws when the record, replayed, is not what really lies there afterwards: then something was missed
 */
export async function recordOperation(
  root: string,
  work: () => Promise<void>,
  { grantsReflinks = false, after }: RecordOptions = {},
): Promise<DiskRecord> {
  const recorder = new Recorder(root, after);
  const stop = await watchFileCalls({ root, observer: recorder, grantsReflinks });
  try {
    await work();
  } finally {
    stop();
  }
  const record = recorder.finish();
  const replayed = new TreeBuilder(record).build(record.effects.map(() => true));
  const real = readTree(root);
  if (replayed.key === real.key) return record;
  throw new Error(
    `the record is incomplete\nreplayed:\n${describeTree(replayed)}\nreal:\n${describeTree(real)}`,
  );
}

class Recorder implements FileCallObserver {
  readonly #root: string;
  readonly #initial: Disk;
  readonly #steps: Step[] = [];
  readonly #effects: Effect[] = [];
  readonly #born = new Map<NodeId, { kind: 'file' | 'folder'; mode: number }>();
  /** What every name means at this moment, were nothing lost. */
  readonly #entries = new Map<NodeId, Map<string, NodeId>>();
  readonly #sizes = new Map<NodeId, number>();
  readonly #handles = new WeakMap<object, { node: NodeId; file: string }>();
  #nextId = 0;

  constructor(root: string, after: KilledOperation | undefined) {
    this.#root = root;
    this.#initial = after?.record.initial ?? readDisk(root);
    for (const [id, node] of this.#initial.nodes) {
      if (node.kind === 'folder') this.#entries.set(id, new Map(node.entries));
      else this.#sizes.set(id, node.bytes.byteLength);
    }
    for (const [id, born] of after?.record.born ?? []) {
      this.#born.set(id, born);
      if (born.kind === 'folder') this.#entries.set(id, new Map());
      else this.#sizes.set(id, 0);
    }
    this.#nextId = Math.max(0, ...this.#initial.nodes.keys(), ...this.#born.keys()) + 1;
    if (after === undefined) return;
    this.#steps.push(...after.record.steps.slice(0, after.steps));
    for (const effect of after.record.effects.slice(0, effectsAfter(after.record, after.steps)))
      this.#add(effect);
  }

  finish(): DiskRecord {
    return { initial: this.#initial, steps: this.#steps, effects: this.#effects, born: this.#born };
  }

  /** A flush covers what had been done before it was asked for. */
  began(): number {
    return this.#effects.length;
  }

  done(call: FileCall, before: number): void {
    const flush = this.#apply(call, before);
    if (call.kind === 'opened' && !call.isNew && !call.isEmptied) return;
    this.#steps.push({
      label: this.#label(call),
      effects: this.#effects.length,
      ...(flush === undefined ? {} : { flush }),
    });
  }

  #apply(call: FileCall, before: number): Flush | undefined {
    switch (call.kind) {
      case 'opened': {
        const node = call.isNew ? this.#bear(call.file, 'file') : this.#resolve(call.file);
        if (call.isEmptied) this.#resize(node, 0);
        this.#handles.set(call.handle, { node, file: call.file });
        return undefined;
      }
      case 'written': {
        const { node } = this.#opened(call.handle);
        this.#write(node, call.offset, call.bytes);
        return undefined;
      }
      case 'resized':
        this.#resize(this.#opened(call.handle).node, call.sizeBytes);
        return undefined;
      case 'mode-set': {
        const { node, file } = this.#opened(call.handle);
        this.#add({ kind: 'mode', node, mode: modeOf(file) });
        return undefined;
      }
      case 'flushed':
        return { node: this.#opened(call.handle).node, before };
      case 'file-written': {
        const node = call.isNew ? this.#bear(call.file, 'file') : this.#resolve(call.file);
        this.#resize(node, 0);
        this.#write(node, 0, fs.readFileSync(call.file));
        return undefined;
      }
      case 'folder-made':
        this.#bear(call.folder, 'folder');
        return undefined;
      case 'renamed': {
        const child = this.#resolve(call.from);
        const added = this.#setEntry(call.to, child);
        this.#setEntry(call.from, undefined, added);
        return undefined;
      }
      case 'linked':
        this.#setEntry(call.added, this.#resolve(call.file));
        return undefined;
      case 'removed':
        this.#remove(call.path);
        return undefined;
    }
  }

  #bear(file: string, kind: 'file' | 'folder'): NodeId {
    const parent = path.dirname(file);
    // Made by a recursive mkdir as well.
    if (parent !== this.#root && this.#find(parent) === undefined) this.#bear(parent, 'folder');
    const id = this.#nextId++;
    this.#born.set(id, { kind, mode: modeOf(file) });
    if (kind === 'folder') this.#entries.set(id, new Map());
    else this.#sizes.set(id, 0);
    this.#setEntry(file, id);
    return id;
  }

  #remove(file: string): void {
    const node = this.#resolve(file);
    for (const name of [...(this.#entries.get(node)?.keys() ?? [])]) this.#remove(path.join(file, name));
    this.#setEntry(file, undefined);
  }

  /** @returns the index of the effect */
  #setEntry(file: string, child: NodeId | undefined, needs?: number): number {
    const node = this.#resolve(path.dirname(file));
    const name = path.basename(file);
    this.#add({ kind: 'entry', node, name, child, ...(needs === undefined ? {} : { needs }) });
    return this.#effects.length - 1;
  }

  #write(node: NodeId, offset: number, bytes: Buffer): void {
    for (const effect of writeEffects(node, offset, bytes, this.#sizes.get(node) ?? 0)) this.#add(effect);
  }

  #resize(node: NodeId, sizeBytes: number): void {
    if (this.#sizes.get(node) !== sizeBytes) this.#add({ kind: 'size', node, sizeBytes });
  }

  #add(effect: Effect): void {
    this.#effects.push(effect);
    if (effect.kind === 'size') this.#sizes.set(effect.node, effect.sizeBytes);
    if (effect.kind !== 'entry') return;
    const entries = this.#entries.get(effect.node);
    if (effect.child === undefined) entries?.delete(effect.name);
    else entries?.set(effect.name, effect.child);
  }

  #opened(handle: object): { node: NodeId; file: string } {
    const found = this.#handles.get(handle);
    if (found === undefined) throw new Error('a handle that nobody opened');
    return found;
  }

  #resolve(file: string): NodeId {
    const node = this.#find(file);
    if (node === undefined) throw new Error(`${file} came into being unseen`);
    return node;
  }

  #find(file: string): NodeId | undefined {
    let node: NodeId | undefined = this.#initial.root;
    for (const name of this.#relative(file).split('/').filter(Boolean)) {
      node = node === undefined ? undefined : this.#entries.get(node)?.get(name);
    }
    return node;
  }

  #relative(file: string): string {
    return path.relative(this.#root, file).split(path.sep).join('/');
  }

  #label(call: FileCall): string {
    const name = (file: string) => this.#relative(file) || '.';
    switch (call.kind) {
      case 'opened':
        return `create ${name(call.file)}`;
      case 'written':
        return `write ${call.bytes.byteLength} at ${call.offset} ${name(this.#opened(call.handle).file)}`;
      case 'resized':
      case 'mode-set':
      case 'flushed':
        return `${call.kind} ${name(this.#opened(call.handle).file)}`;
      case 'file-written':
        return `write ${fs.statSync(call.file).size} at 0 ${name(call.file)}`;
      case 'folder-made':
        return `mkdir ${name(call.folder)}`;
      case 'renamed':
        return `rename ${name(call.from)} ${name(call.to)}`;
      case 'linked':
        return `link ${name(call.file)} ${name(call.added)}`;
      case 'removed':
        return `remove ${name(call.path)}`;
    }
  }
}

function modeOf(file: string): number {
  return fs.lstatSync(file).mode & 0o7777;
}
