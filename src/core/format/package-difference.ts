import type { ByteSource } from '../base/byte-source.ts';
import { Digest } from '../base/digest.ts';
import type { GgufArray } from './gguf/gguf-array.ts';
import type { GgufFile, GgufMetadata, GgufValue } from './gguf/gguf-types.ts';
import type { PackageDescriptor } from './package-descriptor.ts';
import { type LineDifference, lineDifferences } from './text-difference.ts';

/** Longer values are cut: the digest of the file says that something changed, this what. */
const VALUE_CHARACTERS_MAX = 100;
/** Tokens shown of those that changed. */
const TOKENS_SHOWN_MAX = 10;
/** One read of weights. */
const READ_BYTES = 1 << 20;

const TOKENS_KEY = 'tokenizer.ggml.tokens';
const TEMPLATE_KEY = 'tokenizer.chat_template';

/** A tensor of any of a package's weights files. */
export interface TensorFacts {
  readonly name: string;
  /** `Q4_1 576×1536`. */
  readonly shape: string;
  readonly sizeBytes: number;
  readonly digest: Digest;
}

/** What of a package is compared. */
export interface PackageContent {
  readonly descriptor: PackageDescriptor;
  /** Of the first weights file; of other shards it only says which they are. */
  readonly metadata: GgufMetadata;
  readonly tensors: readonly TensorFacts[];
  /** The package's own; absent: the one in the metadata. */
  readonly chatTemplate?: string;
}

export interface FileDifference {
  readonly path: string;
  readonly kind: 'added' | 'removed' | 'changed';
  readonly beforeBytes?: number;
  readonly afterBytes?: number;
}

/** A field or metadata key; `before` or `after` is absent where there was or is none. */
export interface ValueDifference {
  readonly key: string;
  readonly before?: string;
  readonly after?: string;
}

export interface TokenDifference {
  readonly beforeTokens: number;
  readonly afterTokens: number;
  /** Numbers that mean another text now, those of only one side included. */
  readonly changedTokens: number;
  readonly examples: readonly { readonly id: number; readonly before?: string; readonly after?: string }[];
}

export interface TensorDifference {
  readonly name: string;
  readonly kind: 'added' | 'removed' | 'changed';
  readonly before?: string;
  readonly after?: string;
  /** Of the newer one, else of the older. */
  readonly sizeBytes: number;
}

/** What changed from one package to another; everything empty or absent: nothing. */
export interface PackageDifference {
  readonly files: readonly FileDifference[];
  readonly descriptor: readonly ValueDifference[];
  readonly metadata: readonly ValueDifference[];
  readonly tokens?: TokenDifference;
  readonly chatTemplate: readonly LineDifference[];
  readonly tensors: readonly TensorDifference[];
  readonly sameTensors: number;
  readonly sameTensorBytes: number;
}

/** The SHA-256 of every tensor's data, in file order. Reads the whole file once. @throws what `source` throws */
export async function readTensorFacts(
  file: GgufFile,
  source: ByteSource,
  signal: AbortSignal,
): Promise<TensorFacts[]> {
  const facts: TensorFacts[] = [];
  for (const { name, type, dimensions, offset, sizeBytes } of file.tensors) {
    const hash = Digest.begin();
    for (let done = 0; done < sizeBytes; done += READ_BYTES) {
      signal.throwIfAborted();
      hash.update(await source.read(offset + done, Math.min(READ_BYTES, sizeBytes - done)));
    }
    const shape = `${type.name.toUpperCase()} ${dimensions.join('×')}`;
    facts.push({ name, shape, sizeBytes, digest: Digest.finish(hash) });
  }
  return facts;
}

/** Compares two packages, usually two versions of one. */
export function comparePackages(before: PackageContent, after: PackageContent): PackageDifference {
  const { tensors, sameTensors, sameTensorBytes } = compareTensors(before.tensors, after.tensors);
  const tokens = compareTokens(tokensOf(before.metadata), tokensOf(after.metadata));
  return {
    files: compareFiles(before.descriptor, after.descriptor),
    descriptor: compareValues(descriptorFields(before.descriptor), descriptorFields(after.descriptor)),
    metadata: compareMetadata(before.metadata, after.metadata),
    ...(tokens === undefined ? {} : { tokens }),
    chatTemplate: lineDifferences(templateOf(before), templateOf(after)),
    tensors,
    sameTensors,
    sameTensorBytes,
  };
}

function compareFiles(before: PackageDescriptor, after: PackageDescriptor): FileDifference[] {
  const old = new Map(before.files.map((file) => [file.path, file]));
  const now = new Map(after.files.map((file) => [file.path, file]));
  return unionKeys(old, now).flatMap((path): FileDifference[] => {
    const [left, right] = [old.get(path), now.get(path)];
    if (left === undefined)
      return right === undefined ? [] : [{ path, kind: 'added', afterBytes: right.size }];
    if (right === undefined) return [{ path, kind: 'removed', beforeBytes: left.size }];
    if (left.digest === right.digest) return [];
    return [{ path, kind: 'changed', beforeBytes: left.size, afterBytes: right.size }];
  });
}

/** What a package says of itself, but for its files and what differs anyway. */
function descriptorFields(descriptor: PackageDescriptor): ReadonlyMap<string, string> {
  const { name, variant, license, description, model, memoryBytes, protection, parameters, lineage } =
    descriptor;
  const fields = new Map<string, string>();
  const put = (key: string, value: unknown) => {
    if (value !== undefined) fields.set(key, cut(typeof value === 'string' ? value : JSON.stringify(value)));
  };
  for (const [key, value] of Object.entries({ name, variant, license, description, memoryBytes }))
    put(key, value);
  for (const [key, value] of Object.entries(model)) put(`model.${key}`, value);
  for (const [key, value] of Object.entries(parameters ?? {})) put(`parameters.${key}`, value);
  put('protection.sealed', protection.sealed);
  put('lineage', lineage);
  return fields;
}

/** Keys but the tokens and the template, which are compared apart. */
function compareMetadata(before: GgufMetadata, after: GgufMetadata): ValueDifference[] {
  return unionKeys(before, after).flatMap((key) => {
    if (key === TEMPLATE_KEY || key === TOKENS_KEY) return [];
    const [left, right] = [before.get(key), after.get(key)];
    if (left !== undefined && right !== undefined && isSameValue(left, right)) return [];
    return [valueDifference(key, left && valueText(left), right && valueText(right))];
  });
}

function compareValues(
  before: ReadonlyMap<string, string>,
  after: ReadonlyMap<string, string>,
): ValueDifference[] {
  return unionKeys(before, after).flatMap((key) =>
    before.get(key) === after.get(key) ? [] : [valueDifference(key, before.get(key), after.get(key))],
  );
}

function valueDifference(
  key: string,
  before: string | undefined,
  after: string | undefined,
): ValueDifference {
  return { key, ...(before === undefined ? {} : { before }), ...(after === undefined ? {} : { after }) };
}

function isSameValue(left: GgufValue, right: GgufValue): boolean {
  if (left.kind !== right.kind) return false;
  if (left.kind !== 'array' || right.kind !== 'array') return Object.is(left.value, right.value);
  return (
    left.value.elementKind === right.value.elementKind &&
    left.value.length === right.value.length &&
    Buffer.compare(left.value.encoded, right.value.encoded) === 0
  );
}

function valueText(value: GgufValue): string {
  if (value.kind === 'string') return cut(value.value);
  if (value.kind !== 'array') return String(value.value);
  const { elementKind, length, encoded } = value.value;
  const digest = Digest.hex(Digest.of(encoded)).slice(0, 12);
  return `${length} ${elementKind}s (${digest})`;
}

function cut(text: string): string {
  return text.length <= VALUE_CHARACTERS_MAX ? text : `${text.slice(0, VALUE_CHARACTERS_MAX)}…`;
}

function tokensOf(metadata: GgufMetadata): GgufArray | undefined {
  const value = metadata.get(TOKENS_KEY);
  return value?.kind === 'array' && value.value.elementKind === 'string' ? value.value : undefined;
}

function compareTokens(
  before: GgufArray | undefined,
  after: GgufArray | undefined,
): TokenDifference | undefined {
  if (before === undefined && after === undefined) return undefined;
  if (before !== undefined && after !== undefined) {
    if (before.length === after.length && Buffer.compare(before.encoded, after.encoded) === 0)
      return undefined;
  }
  const [old, now] = [before?.strings(), after?.strings()];
  const counts = { beforeTokens: before?.length ?? 0, afterTokens: after?.length ?? 0 };
  const examples: TokenDifference['examples'][number][] = [];
  let changedTokens = 0;
  for (let id = 0; id < Math.max(counts.beforeTokens, counts.afterTokens); id++) {
    const left = id < counts.beforeTokens ? old?.next().value : undefined;
    const right = id < counts.afterTokens ? now?.next().value : undefined;
    if (left && right && Buffer.compare(left, right) === 0) continue;
    changedTokens++;
    if (examples.length >= TOKENS_SHOWN_MAX) continue;
    const text = (bytes: Uint8Array) => cut(Buffer.from(bytes).toString('utf8'));
    examples.push({
      id,
      ...(left ? { before: text(left) } : {}),
      ...(right ? { after: text(right) } : {}),
    });
  }
  return { ...counts, changedTokens, examples };
}

function templateOf({ chatTemplate, metadata }: PackageContent): string {
  if (chatTemplate !== undefined) return chatTemplate;
  const value = metadata.get(TEMPLATE_KEY);
  return value?.kind === 'string' ? value.value : '';
}

function compareTensors(before: readonly TensorFacts[], after: readonly TensorFacts[]) {
  const old = new Map(before.map((tensor) => [tensor.name, tensor]));
  const now = new Map(after.map((tensor) => [tensor.name, tensor]));
  let sameTensors = 0;
  let sameTensorBytes = 0;
  const tensors = unionKeys(old, now).flatMap((name): TensorDifference[] => {
    const [left, right] = [old.get(name), now.get(name)];
    if (left === undefined && right !== undefined) {
      return [{ name, kind: 'added', after: right.shape, sizeBytes: right.sizeBytes }];
    }
    if (left !== undefined && right === undefined) {
      return [{ name, kind: 'removed', before: left.shape, sizeBytes: left.sizeBytes }];
    }
    if (left === undefined || right === undefined) return [];
    if (left.digest === right.digest && left.shape === right.shape) {
      sameTensors++;
      sameTensorBytes += right.sizeBytes;
      return [];
    }
    return [{ name, kind: 'changed', before: left.shape, after: right.shape, sizeBytes: right.sizeBytes }];
  });
  return { tensors, sameTensors, sameTensorBytes };
}

/** Keys of both, in the order of the first, then what only the second has. */
function unionKeys(left: ReadonlyMap<string, unknown>, right: ReadonlyMap<string, unknown>): string[] {
  return [...new Set([...left.keys(), ...right.keys()])];
}
