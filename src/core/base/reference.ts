import { FreeholdError } from './errors.ts';
import { parsePackageName, parseVariantName, parseVersion, quoted } from './ids.ts';

/** What a user may type where a model is asked for. */
export type Reference =
  | {
      readonly kind: 'installed';
      readonly name: string;
      readonly version?: string;
      readonly variant?: string;
    }
  | { readonly kind: 'catalog'; readonly name: string }
  | { readonly kind: 'file'; readonly path: string };

/** Longest path that Linux accepts. */
const REFERENCE_CHARACTERS_MAX = 4096;

/**
 * Reads `NAME[@VERSION][#VARIANT]`, `catalog:NAME` or `file:PATH`.
 * @throws REFERENCE_INVALID, NAME_INVALID, VERSION_INVALID, NOT_SUPPORTED
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
  const scheme = /^(oci|hf|https?):\/\//.exec(text)?.[1];
  if (scheme !== undefined) {
    throw new FreeholdError('NOT_SUPPORTED', `this version cannot install from ${scheme}:// yet`, {
      hint: 'catalog:NAME, or file:FOLDER for an exported package',
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
