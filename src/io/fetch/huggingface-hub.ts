import { z } from 'zod';
import { Digest } from '../../core/base/digest.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import { parseFilePath, quoted } from '../../core/base/ids.ts';
import { parseStrictJson } from '../../core/base/strict-json.ts';
import { LICENSE_UNKNOWN, licenseExpression } from '../../core/format/license-expression.ts';
import type { FetchLimits } from '../http/fetch-limits.ts';
import type { Environment } from '../http/http-connections.ts';
import { fetchDocument, type HttpDocument } from './http-document.ts';
import { hubEndpoint, hubPlace } from './huggingface.ts';

/** A repository with thousands of files and a long model card stays under 2 MiB. */
const INFO_BYTES_MAX = 16 << 20;
const INFO_DEPTH_MAX = 64;
/** More are no models but data sets. */
const FILES_MAX = 50_000;

// Loose: the hub adds fields at any time, and most of them are about its web pages.
const fileSchema = z.looseObject({
  rfilename: z.string(),
  size: z.number().int().nonnegative().nullish(),
  lfs: z
    .looseObject({ sha256: z.string().nullish(), size: z.number().int().nonnegative().nullish() })
    .nullish(),
});
const infoSchema = z.looseObject({
  sha: z.string().regex(/^[0-9a-f]{40}$/),
  gated: z.union([z.boolean(), z.string()]).nullish(),
  siblings: z.array(fileSchema).max(FILES_MAX).nullish(),
  cardData: z
    .looseObject({
      license: z.union([z.string(), z.array(z.string())]).nullish(),
      license_name: z.string().nullish(),
      license_link: z.string().nullish(),
    })
    .nullish(),
});
const treeSchema = z
  .array(
    z.looseObject({
      path: z.string(),
      lfs: z
        .looseObject({ oid: z.string().nullish(), size: z.number().int().nonnegative().nullish() })
        .nullish(),
    }),
  )
  .max(FILES_MAX);

/** A file of a repository as the hub lists it. */
export interface HubFile {
  readonly path: string;
  /** Of files in large file storage, which GGUF files are; undefined for small ones that lie in git itself. */
  readonly digest: Digest | undefined;
  readonly sizeBytes: number | undefined;
}

/** One repository at one commit. */
export interface HubRepository {
  /** `OWNER/REPO`. */
  readonly name: string;
  /** What the branch or tag meant: 40 hexadecimal digits. */
  readonly commit: string;
  /** Only for accounts that were let in on its page. */
  readonly isGated: boolean;
  /** An SPDX expression, as the model card states it. */
  readonly license: string;
  /** Where the licence can be read. */
  readonly licenseUrl: string;
  /** Files whose paths can stand in a package. */
  readonly files: readonly HubFile[];
}

export interface HubOptions {
  readonly environment: Environment;
  readonly signal: AbortSignal;
  readonly limits?: Partial<FetchLimits>;
}

/**
 * Asks the hub what a repository holds at a branch, tag or commit. Written from the hub's public documentation
 * ("Hub API endpoints", `GET /api/models/{repo_id}/revision/{revision}?blobs=true`).
 * @throws NOT_FOUND, AUTHENTICATION_FAILED with the page on which access is given, NETWORK, CONFIG_INVALID
 */
export async function readHubRepository(
  name: string,
  revision: string,
  options: HubOptions,
): Promise<HubRepository> {
  const { environment } = options;
  const place = await hubPlace(`api/models/${name}/revision/${revision}`, environment);
  const document = await fetchDocument(
    { ...place, url: `${place.url}?blobs=true` },
    { ...options, bytesMax: INFO_BYTES_MAX },
  );
  requireAnswer(document, { name, revision, hub: hubEndpoint(environment), bearerToken: place.bearerToken });
  const info = parseAnswer(document.bytes, infoSchema, name);
  const page = `${hubEndpoint(environment)}/${name}`;
  return {
    name,
    commit: info.sha,
    isGated: info.gated !== undefined && info.gated !== null && info.gated !== false,
    license: cardLicense(info.cardData),
    licenseUrl: readableLink(info.cardData?.license_link) ?? page,
    files: (info.siblings ?? []).flatMap(({ rfilename, size, lfs }) =>
      hubFile(rfilename, lfs?.sha256, lfs?.size ?? size),
    ),
  };
}

/**
 * The digests of files that the repository's own list does not state, from the list of their folder.
 * @throws NOT_SUPPORTED when the hub states none
 */
export async function withDigests(
  repository: HubRepository,
  paths: readonly string[],
  options: HubOptions,
): Promise<readonly PinnedFile[]> {
  const known = new Map(repository.files.map((file) => [file.path, file]));
  for (const folder of new Set(paths.filter((path) => !isPinned(known.get(path))).map(folderOf))) {
    for (const file of await readHubFolder(repository, folder, options)) known.set(file.path, file);
  }
  return paths.map((path) => {
    const file = known.get(path);
    if (isPinned(file)) return file;
    throw new FreeholdError(
      'NOT_SUPPORTED',
      `${repository.name}: the hub states no SHA-256 of ${quoted(path)}`,
      {
        hint: 'only files in large file storage have one; download it and install it with file:PATH',
      },
    );
  });
}

/** A file whose digest and size the hub states. */
export interface PinnedFile extends HubFile {
  readonly digest: Digest;
  readonly sizeBytes: number;
}

function isPinned(file: HubFile | undefined): file is PinnedFile {
  return file?.digest !== undefined && file.sizeBytes !== undefined;
}

/** `GET /api/models/{repo_id}/tree/{revision}/{path}`. */
async function readHubFolder(
  { name, commit }: HubRepository,
  folder: string,
  options: HubOptions,
): Promise<HubFile[]> {
  const hubPath = ['api/models', name, 'tree', commit, ...(folder === '' ? [] : [folder])].join('/');
  const place = await hubPlace(hubPath, options.environment);
  const document = await fetchDocument(place, { ...options, bytesMax: INFO_BYTES_MAX });
  const hub = hubEndpoint(options.environment);
  requireAnswer(document, { name, revision: commit, hub, bearerToken: place.bearerToken });
  const items = parseAnswer(document.bytes, treeSchema, name);
  return items.flatMap(({ path, lfs }) => hubFile(path, lfs?.oid, lfs?.size));
}

/** A path that could not stand in a package (`../x`, a control character) is left out: nobody can mean it. */
function hubFile(
  path: string,
  sha256: string | null | undefined,
  size: number | null | undefined,
): HubFile[] {
  try {
    parseFilePath(path);
  } catch {
    return [];
  }
  const digest = `sha256:${sha256?.toLowerCase()}`;
  return [{ path, digest: Digest.is(digest) ? digest : undefined, sizeBytes: size ?? undefined }];
}

function parseAnswer<Schema extends z.ZodType>(
  bytes: Buffer,
  schema: Schema,
  name: string,
): z.output<Schema> {
  const label = `the hub's answer about ${name}`;
  const json = parseStrictJson(bytes, {
    label,
    code: 'NETWORK',
    bytesMax: INFO_BYTES_MAX,
    depthMax: INFO_DEPTH_MAX,
  });
  const result = schema.safeParse(json);
  if (result.success) return result.data;
  throw new FreeholdError('NETWORK', `${label} is not what its documentation says`, { cause: result.error });
}

/** What was asked of the hub, for messages. */
interface HubQuestion {
  readonly name: string;
  readonly revision: string;
  readonly hub: string;
  readonly bearerToken: string | undefined;
}

/** The hub's own words for a refusal (header `X-Error-Code`); without a login it says 401 for what does not exist, too. */
function requireAnswer({ status, header }: HttpDocument, question: HubQuestion): void {
  if (status === 200) return;
  const { name, revision, hub, bearerToken } = question;
  const code = header('x-error-code') ?? '';
  if (code === 'GatedRepo' || status === 403) throw gatedRepository(name, `${hub}/${name}`, bearerToken);
  if (code === 'RevisionNotFound') {
    throw new FreeholdError('NOT_FOUND', `${name} has no branch, tag or commit ${quoted(revision)}`, {
      hint: `see ${hub}/${name}`,
    });
  }
  if (status === 401 && bearerToken !== undefined && code !== 'RepoNotFound') {
    throw new FreeholdError('AUTHENTICATION_FAILED', `${hub} does not accept the token for ${name}`, {
      hint: `make a new token at ${hub}/settings/tokens and set HF_TOKEN`,
    });
  }
  if (status === 401 || status === 404) {
    throw new FreeholdError('NOT_FOUND', `${hub} has no model ${name}, or it is private`, {
      hint:
        bearerToken === undefined
          ? 'check the name; for a private repository set HF_TOKEN'
          : 'check the name, and whether the account of HF_TOKEN may see it',
    });
  }
  throw new FreeholdError('NETWORK', `${hub} answered HTTP status ${status} about ${name}`);
}

/**
 * Call it before the first byte of a file.
 * @throws AUTHENTICATION_FAILED for a gated repository without a token
 */
export async function requireAccess(
  { name, isGated }: HubRepository,
  { environment }: HubOptions,
): Promise<void> {
  const place = await hubPlace(name, environment);
  if (isGated && place.bearerToken === undefined) throw gatedRepository(name, place.url, place.bearerToken);
}

/** What a refused download of a gated repository means. */
export async function explainedRefusal(
  thrown: unknown,
  { name, isGated }: HubRepository,
  { environment }: HubOptions,
): Promise<unknown> {
  const isRefusal =
    thrown instanceof FreeholdError && thrown.code === 'SOURCES_EXHAUSTED' && isLoginWanted(thrown.cause);
  if (!isGated || !isRefusal) return thrown;
  const place = await hubPlace(name, environment);
  return gatedRepository(name, place.url, place.bearerToken);
}

function isLoginWanted(cause: unknown): boolean {
  if (!(cause instanceof AggregateError)) return false;
  return cause.errors.some(
    (error) => error instanceof FreeholdError && (error.detail.status === 401 || error.detail.status === 403),
  );
}

/** Access is given on the page of the repository, to the account of a token. */
function gatedRepository(name: string, page: string, bearerToken: string | undefined): FreeholdError {
  return new FreeholdError(
    'AUTHENTICATION_FAILED',
    `${name} is gated: its licence must be accepted with an account, at ${page}`,
    {
      hint:
        bearerToken === undefined
          ? `accept it at ${page}, then set HF_TOKEN to a token of that account`
          : `accept it at ${page} with the account of HF_TOKEN; the token must be allowed to read gated repositories`,
      detail: { repository: name, page },
    },
  );
}

function cardLicense(card: z.output<typeof infoSchema>['cardData']): string {
  const stated = [card?.license ?? []].flat();
  const [first] = stated;
  if (first === undefined) return LICENSE_UNKNOWN;
  // `other` is the hub's word for a licence with a name of its own.
  if (first === 'other' && card?.license_name) return licenseExpression(card.license_name);
  return licenseExpression(stated.join(' AND '));
}

/** For a person to open: https only, nothing that a terminal could take for more than an address. */
function readableLink(link: string | null | undefined): string | undefined {
  const url = URL.parse(link ?? '');
  return url?.protocol === 'https:' && url.username === '' && url.href.length <= 2048 ? url.href : undefined;
}

function folderOf(path: string): string {
  return path.slice(0, Math.max(0, path.lastIndexOf('/')));
}
