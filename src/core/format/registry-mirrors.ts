import { z } from 'zod';
import { parseRepositoryName, type RepositoryName } from '../base/registry-reference.ts';
import { textParsedBy } from '../base/schema-text.ts';

/** As many as anybody keeps in order by hand. */
const RULES_MAX = 256;
const MIRRORS_MAX = 16;

/** A registry, or a part of one. */
interface PlacePrefix {
  readonly host: string;
  /** Repositories below it; empty for all. */
  readonly prefix: string;
}

/** Where repositories can also be had, and how to connect there. */
export interface RegistryMirror extends PlacePrefix {
  /** Plain http for a host that is not this machine. */
  readonly plainHttp: boolean;
  /** PEM file of certificate authorities; a path, relative to the file that names it. */
  readonly caFile: string | undefined;
  /** Hosts that may give out tokens for it besides itself. */
  readonly tokenRealms: readonly string[];
}

/** Further places for the repositories of a registry, or of a part of it; in order. */
export interface MirrorRule extends PlacePrefix {
  readonly mirrors: readonly RegistryMirror[];
}

/** One repository to ask, and how to connect there. */
export interface RegistryPlace extends Pick<RegistryMirror, 'plainHttp' | 'caFile' | 'tokenRealms'> {
  readonly name: RepositoryName;
}

/** `HOST` or `HOST/PREFIX`. @throws REFERENCE_INVALID */
function parsePlacePrefix(text: string): PlacePrefix {
  if (!text.includes('/')) return { host: parseRepositoryName(`${text}/any`).host, prefix: '' };
  const { host, repository } = parseRepositoryName(text);
  return { host, prefix: repository };
}

const hostSchema = textParsedBy((text) => parseRepositoryName(`${text}/any`).host);

const mirrorSchema = z.union([
  textParsedBy(parsePlacePrefix).transform(
    (place): RegistryMirror => ({ ...place, plainHttp: false, caFile: undefined, tokenRealms: [] }),
  ),
  z
    .strictObject({
      place: textParsedBy(parsePlacePrefix),
      plainHttp: z.boolean().default(false),
      ca: z.string().min(1).optional(),
      tokenRealms: z.array(hostSchema).max(MIRRORS_MAX).default([]),
    })
    .transform(
      ({ place, plainHttp, ca, tokenRealms }): RegistryMirror => ({
        ...place,
        plainHttp,
        caFile: ca,
        tokenRealms,
      }),
    ),
]);

/**
 * The key `registries:` of a mirrors.yaml: `HOST` or `HOST/PREFIX` → places, each `HOST`, `HOST/PREFIX` or
 * `{ place, plainHttp, ca, tokenRealms }`.
 */
export const registryMirrorsSchema = z
  .record(z.string(), z.array(mirrorSchema).min(1).max(MIRRORS_MAX))
  .refine((rules) => Object.keys(rules).length <= RULES_MAX, `more than ${RULES_MAX} registries`)
  .transform((rules, context): MirrorRule[] =>
    Object.entries(rules).flatMap(([key, mirrors]) => {
      const place = textParsedBy(parsePlacePrefix).safeParse(key);
      if (place.success) return [{ ...place.data, mirrors }];
      context.addIssue({
        code: 'custom',
        path: [key],
        message: place.error.issues[0]?.message ?? 'not a registry',
      });
      return [];
    }),
  );

/**
 * Where to look for a repository, in this order: its mirrors, then the registry itself. The rule with the longest prefix
 * counts. A mirror that is the registry itself says how to connect to it.
 */
export function registryPlaces(rules: readonly MirrorRule[], name: RepositoryName): RegistryPlace[] {
  const rule = rules
    .filter((candidate) => candidate.host === name.host && isBelow(name.repository, candidate.prefix))
    .reduce<MirrorRule | undefined>(
      (best, candidate) =>
        best === undefined || candidate.prefix.length > best.prefix.length ? candidate : best,
      undefined,
    );
  const places = (rule?.mirrors ?? []).map((mirror): RegistryPlace => {
    const rest = name.repository.slice(rule?.prefix.length).replace(/^\//, '');
    const repository = [mirror.prefix, rest].filter((part) => part !== '').join('/');
    const { host, plainHttp, caFile, tokenRealms } = mirror;
    return { name: { host, repository }, plainHttp, caFile, tokenRealms };
  });
  const isItself = ({ name: { host, repository } }: RegistryPlace) =>
    host === name.host && repository === name.repository;
  if (places.some(isItself)) return places;
  return [...places, { name, plainHttp: false, caFile: undefined, tokenRealms: [] }];
}

/** By whole components: `acme` has `acme/triage` below it, and not `acmecorp/triage`. */
const isBelow = (repository: string, prefix: string): boolean =>
  prefix === '' || repository === prefix || repository.startsWith(`${prefix}/`);
