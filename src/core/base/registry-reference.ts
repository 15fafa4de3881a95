import { Digest } from './digest.ts';
import { FreeholdError } from './errors.ts';
import { parseVariantName, quoted } from './ids.ts';

/** OCI distribution 1.1, "Pulling manifests": a client that keeps to this works with every registry. */
const REPOSITORY_CHARACTERS_MAX = 255;
const REPOSITORY = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$/;
const TAG = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/;
/** RFC 1123 names, IPv4, or an IPv6 address in brackets; then perhaps a port. */
const HOST =
  /^(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*|\[[0-9A-Fa-f:.]{2,45}\])(?::\d{1,5})?$/;
const HOST_CHARACTERS_MAX = 260;
/** A range of versions as `freehold.yaml` writes it: `^1.4`, `>=1.2 <2`. It is read by whoever resolves it. */
const RANGE = /^[\^~<>=*0-9][\^~<>=*|. 0-9A-Za-z-]{0,127}$/;

/** One repository of a registry. */
export interface RepositoryName {
  /** `registry.acme.example`, `127.0.0.1:5000`: what connections and credentials go to. */
  readonly host: string;
  /** `acme/triage`. */
  readonly repository: string;
}

/** Which artifact of the repository: the newest version, a tag, a range of versions, or exactly one document. */
export type ArtifactSelector =
  | { readonly kind: 'newest' }
  | { readonly kind: 'tag'; readonly tag: string }
  | { readonly kind: 'range'; readonly range: string }
  | { readonly kind: 'digest'; readonly digest: Digest };

export interface RegistryReference extends RepositoryName {
  readonly selector: ArtifactSelector;
  readonly variant?: string;
}

/** A tag of a registry. @throws REFERENCE_INVALID */
export function parseTag(text: string): string {
  if (!TAG.test(text)) throw new FreeholdError('REFERENCE_INVALID', `not a tag: ${quoted(text)}`);
  return text;
}

/** `HOST/NAME`. @throws REFERENCE_INVALID */
export function parseRepositoryName(text: string): RepositoryName {
  const slash = text.indexOf('/');
  const host = slash < 0 ? text : text.slice(0, slash);
  const repository = slash < 0 ? '' : text.slice(slash + 1);
  const isHost = host.length <= HOST_CHARACTERS_MAX && HOST.test(host);
  if (!isHost || Number(/:(\d+)$/.exec(host)?.[1] ?? 0) > 65_535) {
    throw new FreeholdError('REFERENCE_INVALID', `not a registry's host: ${quoted(host)}`, {
      hint: 'oci://registry.acme.example/acme/triage:1.4.0; there is no default registry',
    });
  }
  if (repository.length > REPOSITORY_CHARACTERS_MAX || !REPOSITORY.test(repository)) {
    throw new FreeholdError('REFERENCE_INVALID', `not a repository of a registry: ${quoted(repository)}`, {
      hint: 'lower case letters, digits, ".", "_", "-" and "/": oci://registry.acme.example/acme/triage',
    });
  }
  return { host: host.toLowerCase(), repository };
}

const SCHEME = 'oci://';

/** `oci://HOST/NAME`: a repository alone, where tags follow from something else. @throws REFERENCE_INVALID */
export function parseRepository(text: string): RepositoryName {
  const { selector, variant, ...name } = parseRegistryReference(withoutScheme(text));
  if (selector.kind === 'newest' && variant === undefined) return name;
  throw new FreeholdError('REFERENCE_INVALID', `${quoted(text)} names a tag, a digest or a variant`, {
    hint: 'write the repository alone: oci://HOST/NAME',
  });
}

function withoutScheme(text: string): string {
  if (text.startsWith(SCHEME)) return text.slice(SCHEME.length);
  throw new FreeholdError('REFERENCE_INVALID', `not a repository of a registry: ${quoted(text)}`, {
    hint: 'oci://HOST/NAME, for example oci://registry.acme.example/acme/triage',
  });
}

/** `oci://HOST/NAME`. */
export const repositoryText = ({ host, repository }: RepositoryName): string =>
  `${SCHEME}${host}/${repository}`;

/**
 * Reads what follows `oci://`: `HOST/NAME[:TAG|:RANGE|@DIGEST][#VARIANT]`.
 * @throws REFERENCE_INVALID, DIGEST_INVALID, NAME_INVALID
 */
export function parseRegistryReference(text: string): RegistryReference {
  const [place = '', variantText, ...more] = text.split('#');
  if (more.length > 0) throw new FreeholdError('REFERENCE_INVALID', `not a reference: ${quoted(text)}`);
  const variant = variantText === undefined ? {} : { variant: parseVariantName(variantText) };
  const at = place.indexOf('@');
  if (at >= 0) {
    // `NAME:TAG@DIGEST` is common; the digest decides.
    const name = parseRepositoryName(withoutTag(place.slice(0, at)).name);
    const digest = Digest.parse(place.slice(at + 1));
    return { ...name, selector: { kind: 'digest', digest }, ...variant };
  }
  const { name, tag } = withoutTag(place);
  return { ...parseRepositoryName(name), selector: selectorOf(tag), ...variant };
}

/** The colon before a port is followed by a slash, the one before a tag is not. */
function withoutTag(place: string): { name: string; tag: string | undefined } {
  const colon = place.indexOf(':', place.indexOf('/') + 1);
  if (colon < 0 || !place.includes('/')) return { name: place, tag: undefined };
  return { name: place.slice(0, colon), tag: place.slice(colon + 1) };
}

function selectorOf(tag: string | undefined): ArtifactSelector {
  if (tag === undefined) return { kind: 'newest' };
  if (TAG.test(tag)) return { kind: 'tag', tag };
  if (RANGE.test(tag)) return { kind: 'range', range: tag };
  throw new FreeholdError('REFERENCE_INVALID', `neither a tag nor a range of versions: ${quoted(tag)}`);
}

/** The reference as a user writes it, with `oci://`. */
export function registryReferenceText(reference: RegistryReference): string {
  const { host, repository, selector, variant } = reference;
  const suffix = selectorText(selector);
  return `oci://${host}/${repository}${suffix}${variant === undefined ? '' : `#${variant}`}`;
}

function selectorText(selector: ArtifactSelector): string {
  switch (selector.kind) {
    case 'newest':
      return '';
    case 'tag':
      return `:${selector.tag}`;
    case 'range':
      return `:${selector.range}`;
    case 'digest':
      return `@${selector.digest}`;
    default:
      return selector satisfies never;
  }
}
