import { FreeholdError } from './errors.ts';
import { parseFilePath, parsePackageName, parseVariantName, parseVersion, quoted } from './ids.ts';
import { parseRegistryReference, type RegistryReference } from './registry-reference.ts';

/** What a user may type where a model is asked for. */
export type Reference =
  | {
      readonly kind: 'installed';
      readonly name: string;
      readonly version?: string;
      readonly variant?: string;
    }
  | { readonly kind: 'catalog'; readonly name: string }
  | { readonly kind: 'file'; readonly path: string }
  | ({ readonly kind: 'registry' } & RegistryReference)
  | HuggingFaceReference
  /** A model that Ollama or LM Studio keeps on this machine, by the name that they show. */
  | { readonly kind: 'ollama' | 'lmstudio'; readonly name: string };

/** One file of a repository on Hugging Face, or the one with this quantization. */
export interface HuggingFaceReference {
  readonly kind: 'huggingface';
  /** `OWNER/REPO`. */
  readonly repository: string;
  readonly wanted:
    | { readonly kind: 'file'; readonly path: string }
    | { readonly kind: 'quantization'; readonly quantization: string }
    | { readonly kind: 'only' };
  /** Branch, tag or commit; absent: `main`. */
  readonly revision?: string;
}

/** Longest path that Linux accepts. */
const REFERENCE_CHARACTERS_MAX = 4096;

/** `OWNER/REPO` as Hugging Face allows names. */
const HUB_REPOSITORY = /^[A-Za-z0-9][A-Za-z0-9._-]{0,95}\/[A-Za-z0-9][A-Za-z0-9._-]{0,95}$/;
/** Git's names of branches and tags that need no quoting in an address, and commits. */
const HUB_REVISION = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;
const HUB_QUANTIZATION = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,31}$/;
/** What Ollama and LM Studio call their models: folders, a name, perhaps a tag. */
const LOCAL_NAME = /^[A-Za-z0-9][A-Za-z0-9._\-/: ]{0,254}$/;

/**
 * Reads `NAME[@VERSION][#VARIANT]`, `catalog:NAME`, `file:PATH`, `oci://HOST/NAME[:TAG|@DIGEST][#VARIANT]`,
 * `hf://OWNER/REPO[:QUANT|/FILE][@REVISION]`, `ollama:NAME` or `lmstudio:NAME`.
 * @throws REFERENCE_INVALID, NAME_INVALID, VERSION_INVALID, DIGEST_INVALID, NOT_SUPPORTED
 */
export function parseReference(text: string): Reference {
  if (text.length === 0 || text.length > REFERENCE_CHARACTERS_MAX || text.includes('\0')) {
    throw new FreeholdError('REFERENCE_INVALID', `not a model reference: ${quoted(text)}`);
  }
  if (text.startsWith('catalog:')) {
    return { kind: 'catalog', name: parsePackageName(text.slice('catalog:'.length)) };
  }
  if (text.startsWith('file:')) {
    const path = text.slice('file:'.length);
    if (path === '') throw new FreeholdError('REFERENCE_INVALID', 'file: needs a path');
    return { kind: 'file', path };
  }
  if (text.startsWith('oci://')) {
    return { kind: 'registry', ...parseRegistryReference(text.slice('oci://'.length)) };
  }
  if (text.startsWith('hf://')) return parseHuggingFaceReference(text);
  const [, keeper] = /^(ollama|lmstudio):/.exec(text) ?? [];
  if (keeper === 'ollama' || keeper === 'lmstudio') {
    const name = text.slice(keeper.length + 1);
    if (!LOCAL_NAME.test(name)) throw new FreeholdError('REFERENCE_INVALID', `not a name: ${quoted(name)}`);
    return { kind: keeper, name };
  }
  if (/^https?:\/\//.test(text)) {
    throw new FreeholdError('NOT_SUPPORTED', 'a model is not installed from a plain address', {
      hint: 'oci://HOST/NAME:TAG, hf://OWNER/REPO:QUANT, catalog:NAME or file:PATH',
    });
  }
  return parseInstalledReference(text);
}

function parseInstalledReference(text: string): Reference {
  const [beforeVariant, variant, ...moreVariants] = text.split('#');
  const [name, version, ...moreVersions] = (beforeVariant ?? '').split('@');
  if (name === undefined || moreVariants.length > 0 || moreVersions.length > 0) {
    throw new FreeholdError('REFERENCE_INVALID', `not a model reference: ${quoted(text)}`);
  }
  return {
    kind: 'installed',
    name: parsePackageName(name),
    ...(version === undefined ? {} : { version: parseVersion(version) }),
    ...(variant === undefined ? {} : { variant: parseVariantName(variant) }),
  };
}

function parseHuggingFaceReference(text: string): HuggingFaceReference {
  const invalid = () =>
    new FreeholdError('REFERENCE_INVALID', `not a reference to Hugging Face: ${quoted(text)}`, {
      hint: 'hf://OWNER/REPO:Q4_K_M, or hf://OWNER/REPO/FILE.gguf@REVISION',
    });
  const [place = '', revision, ...more] = text.slice('hf://'.length).split('@');
  if (more.length > 0 || (revision !== undefined && !HUB_REVISION.test(revision))) throw invalid();
  const [, repository = '', separator, rest = ''] = /^([^/:]*\/[^/:]*)([/:])?(.*)$/.exec(place) ?? [];
  if (!HUB_REPOSITORY.test(repository)) throw invalid();
  const common = {
    kind: 'huggingface',
    repository,
    ...(revision === undefined ? {} : { revision }),
  } as const;
  if (separator === undefined) return { ...common, wanted: { kind: 'only' } };
  if (separator === '/') return { ...common, wanted: { kind: 'file', path: parseFilePath(rest) } };
  if (!HUB_QUANTIZATION.test(rest)) throw invalid();
  return { ...common, wanted: { kind: 'quantization', quantization: rest } };
}
