import semver from 'semver';
import { z } from 'zod';
import { FreeholdError } from '../base/errors.ts';
import { quoted } from '../base/ids.ts';
import { parseJsonDocument } from '../base/json-document.ts';
import { textParsedBy } from '../base/schema-text.ts';
import { digestSchema, LAYERS_MAX, sizeSchema } from './oci.ts';
import { packageNameSchema, textSchema, variantNameSchema, versionSchema } from './package-descriptor.ts';
import { parseVersionRange } from './version-range.ts';

/** A release lists a variant in about 300 bytes. */
export const CHANNEL_DOCUMENT_BYTES_MAX = 256 * 1024;
/** Releases of which the newer ones are still being rolled out; three at once would be many. */
export const RELEASES_MAX = 8;
/** A package has a handful; each is read at every check. */
export const CHANNELS_MAX = 32;
/** Those that still concern somebody; old ones can be withdrawn. */
export const ADVISORIES_MAX = 128;
const YANKED_MAX = 1000;
/** `>=1.2 <1.4.1 || 2.0.0`: longer ones are written by programs, and every check compares with them. */
const RANGE_CHARACTERS_MAX = 200;
const DOCUMENT_DEPTH_MAX = 8;

const CHANNEL_NAME = /^[a-z0-9]+(?:[._-][a-z0-9]+)*$/;
const CHANNEL_NAME_CHARACTERS_MAX = 64;
const ADVISORY_ID = /^[A-Z0-9]+(?:-[A-Z0-9]+)*$/;
const ADVISORY_ID_CHARACTERS_MAX = 64;

/** `stable`, `lts-2026`, `edge`. @throws NAME_INVALID */
export function parseChannelName(text: string): string {
  if (text.length <= CHANNEL_NAME_CHARACTERS_MAX && CHANNEL_NAME.test(text)) return text;
  throw new FreeholdError('NAME_INVALID', `not a channel name: ${quoted(text)}`, {
    hint: 'lower case letters and digits, joined by ".", "_" or "-": stable, lts-2026',
  });
}

/** `ACME-2026-001`. @throws NAME_INVALID */
export function parseAdvisoryId(text: string): string {
  if (text.length <= ADVISORY_ID_CHARACTERS_MAX && ADVISORY_ID.test(text)) return text;
  throw new FreeholdError('NAME_INVALID', `not an advisory's number: ${quoted(text)}`, {
    hint: 'upper case letters and digits, joined by "-": ACME-2026-001',
  });
}

/** @throws VERSION_INVALID */
export function parseAffectedVersions(text: string): string {
  if (text.length <= RANGE_CHARACTERS_MAX) return parseVersionRange(text);
  throw new FreeholdError(
    'VERSION_INVALID',
    `a range of ${text.length} characters, at most ${RANGE_CHARACTERS_MAX}`,
  );
}

/** Seconds precision in UTC, the notation of TUF: `2026-11-22T00:00:00Z`. */
export const utcTimeSchema = z
  .string()
  .regex(/^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z$/)
  .refine((text) => !Number.isNaN(Date.parse(text)), 'not a time');

const releaseVariantSchema = z.strictObject({
  variant: variantNameSchema,
  /** What an install must have; the signature of the package covers the same bytes. */
  contentDigest: digestSchema,
  /** Where it lay when it was promoted. Signing a package again changes it, so it is a hint. */
  manifestDigest: digestSchema.optional(),
  sizeBytes: sizeSchema.optional(),
});

const releaseSchema = z.strictObject({
  version: versionSchema,
  /** Of all devices, those whose bucket for this version is below get it. */
  rolloutPercent: z.number().int().min(0).max(100),
  promoted: utcTimeSchema,
  variants: z
    .array(releaseVariantSchema)
    .min(1)
    .max(LAYERS_MAX)
    .refine((variants) => areDistinct(variants.map(({ variant }) => variant)), 'a variant twice'),
  /** What the publisher suggests to try a new version with; nothing follows from it. */
  suites: z.array(textSchema).max(8).optional(),
});
/** One version that a channel offers, and to how many. */
export type Release = z.infer<typeof releaseSchema>;
export type ReleaseVariant = z.infer<typeof releaseVariantSchema>;

const channelSchema = z.strictObject({
  schemaVersion: z.literal(1),
  kind: z.literal('channel'),
  name: packageNameSchema,
  channel: textParsedBy(parseChannelName),
  /** A device gets the first whose rollout reaches it. */
  releases: z
    .array(releaseSchema)
    .max(RELEASES_MAX)
    .refine((releases) => areDistinct(releases.map(({ version }) => version)), 'a version twice'),
});
export type ChannelDocument = z.infer<typeof channelSchema>;

const yankedVersionSchema = z.strictObject({ version: versionSchema, reason: textSchema });
const yankedSchema = z.strictObject({
  schemaVersion: z.literal(1),
  kind: z.literal('yanked'),
  name: packageNameSchema,
  versions: z
    .array(yankedVersionSchema)
    .max(YANKED_MAX)
    .refine((versions) => areDistinct(versions.map(({ version }) => version)), 'a version twice'),
});
/** Versions that nobody should get any more, on any channel. */
export type YankedDocument = z.infer<typeof yankedSchema>;
export type YankedVersion = z.infer<typeof yankedVersionSchema>;

/** The qualitative scale of CVSS, the gravest first. */
export const SEVERITIES = ['critical', 'high', 'medium', 'low'] as const;
export type Severity = (typeof SEVERITIES)[number];

const advisorySchema = z.strictObject({
  schemaVersion: z.literal(1),
  kind: z.literal('advisory'),
  name: packageNameSchema,
  id: textParsedBy(parseAdvisoryId),
  severity: z.enum(SEVERITIES),
  title: textSchema.min(1),
  affected: textParsedBy(parseAffectedVersions),
  fixedIn: versionSchema.optional(),
  /** What to do, in words. */
  action: textSchema.min(1),
  published: utcTimeSchema,
  url: textSchema.optional(),
});
export type Advisory = z.infer<typeof advisorySchema>;

const documentSchema = z.discriminatedUnion('kind', [channelSchema, yankedSchema, advisorySchema]);
export type AnyChannelDocument = z.infer<typeof documentSchema>;

/** What a publisher says of one package: all its channels, notices, and withdrawn versions. */
export interface ChannelContents {
  readonly channels: ReadonlyMap<string, ChannelDocument>;
  readonly advisories: readonly Advisory[];
  readonly yanked: readonly YankedVersion[];
}

export const NO_CONTENTS: ChannelContents = { channels: new Map(), advisories: [], yanked: [] };

/** Under which target path a document stands: the path follows from the document, so that one cannot pose as another. */
export function channelDocumentPath(document: AnyChannelDocument): string {
  switch (document.kind) {
    case 'channel':
      return `channels/${document.channel}.json`;
    case 'advisory':
      return `advisories/${document.id}.json`;
    case 'yanked':
      return 'yanked.json';
    default:
      return document satisfies never;
  }
}

/** The bytes of a document; two blanks of indentation, since people look at them. */
export function encodeChannelDocument(document: AnyChannelDocument): Buffer {
  const bytes = Buffer.from(`${JSON.stringify(document, null, 2)}\n`, 'utf8');
  // Whoever publishes learns at once what a customer's side would refuse.
  parseChannelDocument(bytes, channelDocumentPath(document), document.name);
  return bytes;
}

/**
 * Reads a document whose digest signed metadata gave.
 * @param name of the package that was asked for: the channels of another one of the same publisher are refused
 * @throws CHANNEL_INVALID
 */
export function parseChannelDocument(bytes: Uint8Array, path: string, name: string): AnyChannelDocument {
  const document = parseJsonDocument(bytes, documentSchema, {
    bytesMax: CHANNEL_DOCUMENT_BYTES_MAX,
    depthMax: DOCUMENT_DEPTH_MAX,
    code: 'CHANNEL_INVALID',
    label: path,
    hint: 'if the publisher uses a newer Freehold, update Freehold',
  });
  if (document.name !== name) throw otherPackage(path, document.name, name);
  if (channelDocumentPath(document) !== path) {
    throw new FreeholdError('CHANNEL_INVALID', `${path} holds ${channelDocumentPath(document)}`);
  }
  return document;
}

/** Metadata of another package, properly signed perhaps, in the place of the one that was asked for. */
export function otherPackage(where: string, found: string, wanted: string): FreeholdError {
  return new FreeholdError('CHANNEL_INVALID', `${where} is about ${quoted(found)}, not ${wanted}`, {
    hint: 'the repository holds the channels of another package: freehold update follow NAME oci://HOST/REPOSITORY CHANNEL',
    detail: { expected: wanted, actual: found },
  });
}

/** Sorts documents by what they are; advisories with the gravest first. */
export function channelContents(documents: Iterable<AnyChannelDocument>): ChannelContents {
  const channels = new Map<string, ChannelDocument>();
  const advisories: Advisory[] = [];
  let yanked: readonly YankedVersion[] = [];
  for (const document of documents) {
    if (document.kind === 'channel') channels.set(document.channel, document);
    else if (document.kind === 'advisory') advisories.push(document);
    else yanked = document.versions;
  }
  advisories.sort(
    (left, right) =>
      SEVERITIES.indexOf(left.severity) - SEVERITIES.indexOf(right.severity) || (left.id < right.id ? -1 : 1),
  );
  return { channels, advisories, yanked };
}

/** What a publisher says about one version. */
export interface VersionNotices {
  /** The gravest first. */
  readonly advisories: readonly Advisory[];
  /** Why it was withdrawn. */
  readonly yankedBecause?: string;
}

/** @param version absent where none is in use */
export function noticesFor(
  contents: ChannelContents | undefined,
  version: string | undefined,
): VersionNotices {
  if (contents === undefined || version === undefined) return { advisories: [] };
  const yanked = contents.yanked.find((item) => item.version === version);
  return {
    advisories: contents.advisories.filter((advisory) => isAffected(advisory, version)),
    ...(yanked === undefined ? {} : { yankedBecause: yanked.reason }),
  };
}

/** Pre-releases count by their order: `1.4.1-rc.1` is below 1.4.1. */
function isAffected({ affected, fixedIn }: Advisory, version: string): boolean {
  return version !== fixedIn && semver.satisfies(version, affected, { includePrerelease: true });
}

function areDistinct(values: readonly string[]): boolean {
  return new Set(values).size === values.length;
}
