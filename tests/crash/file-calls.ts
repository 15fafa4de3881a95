import fs from 'node:fs';
import fsPromises, { type FileHandle } from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
import path from 'node:path';

/** One call that changed the disk, or asked for it to be flushed, as far as it concerns what is watched. */
export type FileCall =
  | {
      readonly kind: 'opened';
      readonly handle: object;
      readonly file: string;
      readonly isNew: boolean;
      readonly isEmptied: boolean;
    }
  | { readonly kind: 'written'; readonly handle: object; readonly offset: number; readonly bytes: Buffer }
  | { readonly kind: 'resized'; readonly handle: object; readonly sizeBytes: number }
  | { readonly kind: 'mode-set'; readonly handle: object }
  | { readonly kind: 'flushed'; readonly handle: object }
  /** `writeFile` and `copyFile` of a path: opens, empties, writes and closes in one. */
  | { readonly kind: 'file-written'; readonly file: string; readonly isNew: boolean }
  | { readonly kind: 'folder-made'; readonly folder: string }
  | { readonly kind: 'renamed'; readonly from: string; readonly to: string }
  | { readonly kind: 'linked'; readonly file: string; readonly added: string }
  /** Whatever lay there, with everything below it. */
  | { readonly kind: 'removed'; readonly path: string };

export interface FileCallObserver {
  /** Right before the system is asked; what it returns comes back in `done`. */
  began?(kind: FileCall['kind']): number;
  /** Once the system has answered; a call that failed is not told. */
  done?(call: FileCall, token: number): void;
}

export interface WatchOptions {
  /** Absolute. Calls elsewhere are not told. */
  readonly root: string;
  readonly observer: FileCallObserver;
  /** Copies where a reflink is asked for, so that this path is taken whatever file system the test runs on. */
  readonly grantsReflinks?: boolean;
}

type AnyFunction = (...parameters: never[]) => unknown;
type Functions = Record<string, AnyFunction>;
type Call = (...parameters: unknown[]) => Promise<unknown>;

/** Nothing in the product uses these on its home. If that changes, a recording would be incomplete: they throw. */
const UNWATCHED: readonly string[] = [
  ...['appendFile', 'chmod', 'chown', 'cp', 'lchmod', 'lchown', 'lutimes', 'symlink', 'truncate'],
];
const UNWATCHED_CALLBACKS: readonly string[] = [
  ...UNWATCHED,
  ...['copyFile', 'link', 'mkdir', 'mkdtemp', 'open', 'rename', 'rm', 'rmdir', 'unlink', 'writeFile'],
];
const UNWATCHED_OF_HANDLES: readonly string[] = [
  ...['appendFile', 'chown', 'createWriteStream', 'utimes', 'writev'],
];
const { O_CREAT, O_TRUNC, O_WRONLY, O_RDWR, O_APPEND, COPYFILE_FICLONE_FORCE } = fs.constants;

/**
 * Tells an observer of every change that this process makes below a folder through `node:fs/promises`, in the order in
 * which the calls end. Changes by other functions of `node:fs` throw, so that none is missed unseen.
 * @returns ends it
 */
export async function watchFileCalls(options: WatchOptions): Promise<() => void> {
  const { root, observer } = options;
  const isInside = (file: unknown) => {
    const text = file instanceof URL ? file.pathname : String(file);
    return path.resolve(text) === root || path.resolve(text).startsWith(`${root}${path.sep}`);
  };
  /** Where the next write without a position goes; of watched handles only. */
  const offsets = new WeakMap<object, number>();
  const undo: (() => void)[] = [];
  let composites = 0;

  function replace(owner: Functions, name: string, make: (original: Call) => Call): void {
    const original = owner[name];
    // `lchmod` exists on macOS only.
    if (original === undefined) return;
    owner[name] = make(original as unknown as Call) as AnyFunction;
    undo.push(() => {
      owner[name] = original;
    });
  }

  /** A call that Node may carry out by others of its own functions, which must not be refused meanwhile. */
  async function told(
    kind: FileCall['kind'],
    work: () => Promise<unknown>,
    callOf: () => FileCall | undefined,
  ) {
    const token = observer.began?.(kind) ?? 0;
    composites++;
    try {
      const result = await work();
      const call = callOf();
      if (call !== undefined) observer.done?.(call, token);
      return result;
    } finally {
      composites--;
    }
  }

  const promises = fsPromises as unknown as Functions;
  const watchPath = (
    name: string,
    kind: FileCall['kind'],
    watchedOf: (parameters: readonly unknown[]) => unknown,
    prepare: (parameters: readonly unknown[]) => (result: unknown) => FileCall | undefined,
  ) =>
    replace(promises, name, (original) => async (...parameters) => {
      if (!isInside(watchedOf(parameters))) return original(...parameters);
      const callOf = prepare(parameters);
      let result: unknown;
      return told(
        kind,
        async () => {
          result = await original(...parameters);
          return result;
        },
        () => callOf(result),
      );
    });
  const first = ([file]: readonly unknown[]) => file;
  const second = ([, file]: readonly unknown[]) => file;
  const absolute = (file: unknown) => path.resolve(String(file));

  watchPath('rename', 'renamed', second, ([from, to]) => () => ({
    kind: 'renamed',
    from: absolute(from),
    to: absolute(to),
  }));
  watchPath('link', 'linked', second, ([file, added]) => () => ({
    kind: 'linked',
    file: absolute(file),
    added: absolute(added),
  }));
  for (const name of ['rm', 'rmdir', 'unlink']) {
    watchPath(name, 'removed', first, ([file]) => {
      const wasThere = fs.lstatSync(absolute(file), { throwIfNoEntry: false }) !== undefined;
      return () => (wasThere ? { kind: 'removed', path: absolute(file) } : undefined);
    });
  }
  watchPath('mkdir', 'folder-made', first, ([folder]) => {
    const isNew = !fs.existsSync(absolute(folder));
    return () => (isNew ? { kind: 'folder-made', folder: absolute(folder) } : undefined);
  });
  watchPath('mkdtemp', 'folder-made', first, () => (folder) => ({
    kind: 'folder-made',
    folder: absolute(folder),
  }));
  watchPath('writeFile', 'file-written', first, ([file]) => {
    const isNew = !fs.existsSync(absolute(file));
    return () => ({ kind: 'file-written', file: absolute(file), isNew });
  });
  replace(promises, 'copyFile', (original) => async (...parameters) => {
    const [from, to, mode] = parameters;
    if (!isInside(to)) return original(...parameters);
    const granted =
      options.grantsReflinks === true ? Number(mode ?? 0) & ~COPYFILE_FICLONE_FORCE : Number(mode ?? 0);
    return told(
      'file-written',
      () => original(from, to, granted),
      () => ({ kind: 'file-written', file: absolute(to), isNew: true }),
    );
  });
  replace(promises, 'open', (original) => async (...parameters) => {
    const [file, flags] = parameters;
    if (!isInside(file)) return original(...parameters);
    const bits = flagBits(flags);
    const isNew = (bits & O_CREAT) !== 0 && !fs.existsSync(absolute(file));
    const isEmptied = (bits & O_TRUNC) !== 0;
    const isChange = isNew || isEmptied;
    const token = isChange ? (observer.began?.('opened') ?? 0) : 0;
    const handle = (await original(...parameters)) as FileHandle;
    if ((bits & O_APPEND) !== 0) throw new Error(`appending to ${String(file)} is not watched`);
    offsets.set(handle, 0);
    observer.done?.({ kind: 'opened', handle, file: absolute(file), isNew, isEmptied }, token);
    return handle;
  });
  for (const name of UNWATCHED) {
    replace(promises, name, (original) => (...parameters) => {
      requireUnwatched(name, parameters, isInside);
      return original(...parameters);
    });
  }
  const callbacks = fs as unknown as Functions;
  for (const name of UNWATCHED_CALLBACKS.flatMap((each) => [each, `${each}Sync`])) {
    replace(
      callbacks,
      name,
      (original) =>
        // Not an arrow function: callers of callback functions count on nothing, but Node's own hooks look at `this`.
        function watched(this: unknown, ...parameters: unknown[]) {
          const isReading =
            /^open/.test(name) && (flagBits(parameters[1]) & (O_WRONLY | O_RDWR | O_CREAT)) === 0;
          if (composites === 0 && !isReading) requireUnwatched(name, parameters, isInside);
          return Reflect.apply(original, this, parameters);
        },
    );
  }
  await watchHandles(replace, observer, offsets);
  syncBuiltinESMExports();
  return () => {
    for (const each of undo) each();
    syncBuiltinESMExports();
  };
}

async function watchHandles(
  replace: (owner: Functions, name: string, make: (original: Call) => Call) => void,
  observer: FileCallObserver,
  offsets: WeakMap<object, number>,
): Promise<void> {
  const sample = await fsPromises.open(import.meta.filename);
  const prototype = Object.getPrototypeOf(sample) as Functions;
  await sample.close();
  const watch = (
    name: string,
    kind: FileCall['kind'],
    callOf: (handle: object, parameters: readonly unknown[], result: unknown) => FileCall,
  ) =>
    replace(
      prototype,
      name,
      (original) =>
        async function watched(this: FileHandle, ...parameters: unknown[]) {
          if (!offsets.has(this)) return Reflect.apply(original, this, parameters);
          const token = observer.began?.(kind) ?? 0;
          const result: unknown = await Reflect.apply(original, this, parameters);
          observer.done?.(callOf(this, parameters, result), token);
          return result;
        },
    );
  watch('write', 'written', (handle, parameters, result) => {
    const { bytesWritten } = result as { bytesWritten: number };
    const [bytes, start, , position] = parameters as [Uint8Array, number | undefined, unknown, unknown];
    const offset = typeof position === 'number' ? position : (offsets.get(handle) ?? 0);
    if (typeof position !== 'number') offsets.set(handle, offset + bytesWritten);
    const from = start ?? 0;
    return { kind: 'written', handle, offset, bytes: Buffer.from(bytes.subarray(from, from + bytesWritten)) };
  });
  watch('writeFile', 'written', (handle, [data]) => {
    const bytes = Buffer.from(data as Uint8Array);
    const offset = offsets.get(handle) ?? 0;
    offsets.set(handle, offset + bytes.byteLength);
    return { kind: 'written', handle, offset, bytes };
  });
  watch('truncate', 'resized', (handle, [sizeBytes]) => ({
    kind: 'resized',
    handle,
    sizeBytes: Number(sizeBytes ?? 0),
  }));
  watch('chmod', 'mode-set', (handle) => ({ kind: 'mode-set', handle }));
  for (const name of ['sync', 'datasync']) watch(name, 'flushed', (handle) => ({ kind: 'flushed', handle }));
  for (const name of UNWATCHED_OF_HANDLES) {
    replace(
      prototype,
      name,
      (original) =>
        function watched(this: FileHandle, ...parameters: unknown[]) {
          if (offsets.has(this)) throw new Error(`FileHandle.${name} is not watched`);
          return Reflect.apply(original, this, parameters);
        },
    );
  }
}

function requireUnwatched(
  name: string,
  [first, second]: readonly unknown[],
  isInside: (file: unknown) => boolean,
): void {
  const paths = [first, second].filter((each) => typeof each === 'string' || each instanceof URL);
  if (paths.some(isInside)) throw new Error(`fs.${name}(${paths.join(', ')}) is not watched`);
}

/** `fs.open`'s flags as numbers; a string as Node documents them ("File system flags"). */
function flagBits(flags: unknown): number {
  if (typeof flags === 'number') return flags;
  const text = typeof flags === 'string' ? flags : 'r';
  const access = text.includes('+') ? O_RDWR : text.startsWith('r') ? 0 : O_WRONLY;
  if (text.startsWith('r')) return access;
  return access | O_CREAT | (text.startsWith('a') ? O_APPEND : O_TRUNC);
}
