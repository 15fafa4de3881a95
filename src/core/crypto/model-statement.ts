import { z } from 'zod';
import { Digest } from '../base/digest.ts';
import { FreeholdError } from '../base/errors.ts';
import { quoted } from '../base/ids.ts';
import { parseStrictJson } from '../base/strict-json.ts';
import { malformed, parseShape } from './dsse.ts';

/** One file under a signature. */
export interface SignedResource {
  /** Path inside the model's folder, `/` between segments. */
  readonly name: string;
  readonly digest: Digest;
}

/** The in-toto statement of an OpenSSF Model Signing v1.0 signature, as far as Freehold accepts it. */
export interface ModelStatement {
  /** Informational (§6.5.1): the base name of the folder that was signed. */
  readonly subjectName: string;
  /** SHA-256 over the raw digests in the order in which the statement lists them; checked against the list. */
  readonly subjectDigest: Digest;
  /** In the order of the statement. */
  readonly resources: readonly SignedResource[];
  readonly ignorePaths: readonly string[];
}

export const IN_TOTO_PAYLOAD_TYPE = 'application/vnd.in-toto+json';
const STATEMENT_TYPE = 'https://in-toto.io/Statement/v1';
const PREDICATE_TYPE = 'https://model_signing/signature/v1.0';
/** Of `model_signing` 0.2, before the format was settled: no serialization, nothing that protects the file list. */
const PREDICATE_TYPE_OUTDATED = 'https://model_signing/Digests/v0.1';

/** A package has at most 500 layers; folders that other tools signed may have some more. */
export const RESOURCES_MAX = 4096;
/** 4096 resources with names of 100 characters make about 1 MiB, in base64 a third more. */
export const STATEMENT_BYTES_MAX = 1 << 20;
/** The statement itself needs six. */
const JSON_DEPTH_MAX = 16;
/** The longest path that Linux takes. */
const NAME_BYTES_MAX = 4096;
const IGNORE_PATHS_MAX = 256;

const HASHES = ['sha256', 'blake2b', 'blake3'] as const;
const text = z.string().min(1).max(NAME_BYTES_MAX);
const hex256 = z.string().regex(/^[0-9a-f]{64}$/, '64 lower-case hexadecimal digits');

/** Resource descriptors and the subject may carry more (§5.2.1: verifiers ignore it); all else is closed (schemas v1.0). */
const statementSchema = z.strictObject({
  _type: z.literal(STATEMENT_TYPE),
  subject: z.array(z.object({ name: text, digest: z.strictObject({ sha256: hex256 }) })).length(1),
  predicateType: z.literal(PREDICATE_TYPE),
  predicate: z.strictObject({
    resources: z
      .array(z.object({ name: text, digest: z.string(), algorithm: z.enum(HASHES) }))
      .min(1)
      .max(RESOURCES_MAX),
    serialization: z.strictObject({
      method: z.enum(['files', 'shards']),
      hash_type: z.enum(HASHES),
      allow_symlinks: z.boolean(),
      shard_size: z.number().int().positive().optional(),
      ignore_paths: z.array(text).max(IGNORE_PATHS_MAX).optional(),
    }),
  }),
});
type StatementJson = z.infer<typeof statementSchema>;

/** Orders two names by Unicode code points, which is the order of their UTF-8 bytes; JavaScript's `<` is not. */
export function compareNames(left: string, right: string): number {
  return Buffer.compare(Buffer.from(left), Buffer.from(right));
}

/**
 * The digest that names the content of a package, whoever signed it: SHA-256 over the raw digests of its files in the
 * order of their names (OpenSSF Model Signing v1.0 §6.5.1, "root digest"). The input may have any order. The names are
 * not in it: in a package, `freehold.json` is one of the files and lists all others by name.
 */
export function contentDigest(resources: readonly SignedResource[]): Digest {
  return digestInOrder(resources.toSorted((left, right) => compareNames(left.name, right.name)));
}

function digestInOrder(resources: readonly SignedResource[]): Digest {
  const hash = Digest.begin();
  for (const { digest } of resources) hash.update(Digest.raw(digest));
  return Digest.finish(hash);
}

/** JSON bytes of the statement, not checked; equal for equal arguments, whatever the order of the resources. */
export function encodeModelStatement(
  subjectName: string,
  resources: readonly SignedResource[],
  ignorePaths: readonly string[],
): Buffer {
  const sorted = resources.toSorted((left, right) => compareNames(left.name, right.name));
  const json: StatementJson = {
    _type: STATEMENT_TYPE,
    subject: [{ name: subjectName, digest: { sha256: Digest.hex(digestInOrder(sorted)) } }],
    predicateType: PREDICATE_TYPE,
    predicate: {
      resources: sorted.map(({ name, digest }) => ({
        name,
        algorithm: 'sha256',
        digest: Digest.hex(digest),
      })),
      serialization: {
        method: 'files',
        hash_type: 'sha256',
        allow_symlinks: false,
        ignore_paths: [...ignorePaths],
      },
    },
  };
  return Buffer.from(JSON.stringify(json));
}

/**
 * Reads a statement. The bytes must be those that were (or will be) verified: nothing is re-serialised.
 * @throws SIGNATURE_MALFORMED, NOT_SUPPORTED for kinds of signature that Freehold does not take, by name
 */
export function parseModelStatement(bytes: Uint8Array, label: string): ModelStatement {
  const where = `${label}: payload`;
  const json = parseStrictJson(bytes, {
    label: where,
    code: 'SIGNATURE_MALFORMED',
    bytesMax: STATEMENT_BYTES_MAX,
    depthMax: JSON_DEPTH_MAX,
  });
  refuseOutdated(json, label);
  const statement = parseShape(statementSchema, json, where);
  requireSupported(statement, label);
  const [subject] = statement.subject;
  if (subject === undefined) throw malformed(`${where}: no subject`);
  const resources = statement.predicate.resources.map(({ name, digest }): SignedResource => {
    requireCanonicalName(name, where);
    if (!Digest.is(`sha256:${digest}`)) throw malformed(`${where}: ${quoted(name)} has no SHA-256 digest`);
    return { name, digest: Digest.fromHex(digest) };
  });
  requireKnownOrder(resources, where);
  const subjectDigest = Digest.fromHex(subject.digest.sha256);
  if (digestInOrder(resources) !== subjectDigest) {
    throw malformed(
      `${where}: subject digest ${subjectDigest} does not belong to the files that the payload lists`,
    );
  }
  const ignorePaths = statement.predicate.serialization.ignore_paths ?? [];
  return { subjectName: subject.name, subjectDigest, resources, ignorePaths };
}

function refuseOutdated(json: unknown, label: string): void {
  const isObject = typeof json === 'object' && json !== null && 'predicateType' in json;
  if (isObject && json.predicateType === PREDICATE_TYPE_OUTDATED) {
    throw unsupported(`${label}: a signature of model_signing 0.2 (${PREDICATE_TYPE_OUTDATED})`);
  }
}

function requireSupported({ predicate: { resources, serialization } }: StatementJson, label: string): void {
  const { method, hash_type: hashType, allow_symlinks: allowSymlinks, shard_size: shardSize } = serialization;
  if (method === 'shards') throw unsupported(`${label}: serialization method "shards"`);
  if (hashType !== 'sha256') throw unsupported(`${label}: hash_type "${hashType}"`);
  if (allowSymlinks) {
    throw unsupported(
      `${label}: allow_symlinks true, with which a link could stand for a file outside of the model`,
    );
  }
  if (shardSize !== undefined) throw malformed(`${label}: payload: shard_size without method "shards"`);
  const other = resources.find(({ algorithm }) => algorithm !== hashType);
  if (other !== undefined) {
    throw malformed(
      `${label}: payload: ${quoted(other.name)} has algorithm "${other.algorithm}", not "${hashType}"`,
    );
  }
  // What model_signing 1.1 writes for a single file, against §6.1.2, which wants the file's name.
  if (resources.some(({ name }) => name === '.'))
    throw unsupported(`${label}: a signature over a single file`);
}

export const unsupported = (what: string) =>
  new FreeholdError('NOT_SUPPORTED', `${what} is not supported`, {
    hint: 'sign the folder with a key: freehold sign, or model_signing sign key FOLDER --signature FOLDER/model.sig',
  });

/** §6.1.2: relative, `/` between segments, nothing to normalise; and no byte that could hide in a terminal. */
function requireCanonicalName(name: string, where: string): void {
  const isFine =
    Buffer.byteLength(name) <= NAME_BYTES_MAX &&
    !/[\p{Cc}\\]/u.test(name) &&
    name.split('/').every((segment) => segment !== '' && segment !== '.' && segment !== '..');
  if (!isFine) throw malformed(`${where}: not a file name relative to the model: ${quoted(name)}`);
}

/**
 * The specification sorts by whole names (§5.2.1), `model_signing` 1.1 by path segments ("d/x" before "d-x"); both are
 * accepted, any other order and a name that stands there twice are not: the order decides the subject digest.
 */
function requireKnownOrder(resources: readonly SignedResource[], where: string): void {
  const isOrdered = (compare: (left: string, right: string) => number) =>
    resources.every(({ name }, index) => {
      const before = resources[index - 1];
      return before === undefined || compare(before.name, name) < 0;
    });
  if (!isOrdered(compareNames) && !isOrdered(compareSegments)) {
    throw malformed(`${where}: resources are not in the order of their names, or one stands there twice`);
  }
}

function compareSegments(left: string, right: string): number {
  // NUL cannot occur in a name and sorts before everything, so that a segment's end does.
  return compareNames(left.replaceAll('/', '\0'), right.replaceAll('/', '\0'));
}
