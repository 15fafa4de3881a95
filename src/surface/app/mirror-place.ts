import { FreeholdError } from '../../core/base/errors.ts';
import { quoted } from '../../core/base/ids.ts';
import {
  type ArtifactSelector,
  parseRegistryReference,
  parseRepositoryName,
  type RepositoryName,
} from '../../core/base/registry-reference.ts';

/** Where artifacts can be copied from and to. */
export type MirrorPlace =
  | {
      readonly kind: 'registry';
      readonly name: RepositoryName;
      /** A tag or a digest; of a source only. */
      readonly selector: ArtifactSelector;
    }
  /** `oci://HOST/PREFIX/`: each repository under its own name below this one. */
  | { readonly kind: 'registry-prefix'; readonly host: string; readonly prefix: string }
  | { readonly kind: 'layout' | 'archive'; readonly path: string; readonly repository: string | undefined };

const FORMS = 'oci://HOST/NAME[:TAG], oci://HOST/PREFIX/, layout:FOLDER[#NAME] or archive:FILE[#NAME]';
const LAYOUT_REPOSITORY = /^[A-Za-z0-9][A-Za-z0-9._:/-]{0,254}$/;

/**
 * Reads a place of `freehold mirror`. `#NAME` means one repository of a layout or archive that names several.
 * @throws REFERENCE_INVALID, DIGEST_INVALID
 */
export function parseMirrorPlace(text: string): MirrorPlace {
  if (text.startsWith('oci://')) return parseRegistryPlace(text.slice('oci://'.length), text);
  const [, kind, rest = ''] = /^(layout|archive):(.+)$/s.exec(text) ?? [];
  if ((kind !== 'layout' && kind !== 'archive') || rest.includes('\0')) {
    throw new FreeholdError('REFERENCE_INVALID', `not a place for artifacts: ${quoted(text)}`, {
      hint: FORMS,
    });
  }
  const hash = rest.lastIndexOf('#');
  if (hash < 0) return { kind, path: rest, repository: undefined };
  const repository = rest.slice(hash + 1);
  if (hash === 0 || !LAYOUT_REPOSITORY.test(repository)) {
    throw new FreeholdError('REFERENCE_INVALID', `not a repository: ${quoted(repository)}`, { hint: FORMS });
  }
  return { kind, path: rest.slice(0, hash), repository };
}

function parseRegistryPlace(rest: string, text: string): MirrorPlace {
  if (rest.endsWith('/')) {
    // As if a repository followed: what is before it must be a host and perhaps the beginning of a name.
    const { host, repository } = parseRepositoryName(`${rest}x`);
    return { kind: 'registry-prefix', host, prefix: repository.slice(0, -1) };
  }
  const { selector, variant, ...name } = parseRegistryReference(rest);
  if (variant !== undefined || selector.kind === 'range') {
    throw new FreeholdError('REFERENCE_INVALID', `${quoted(text)}: a copy takes a tag or a digest`, {
      hint: FORMS,
    });
  }
  return { kind: 'registry', name, selector };
}
