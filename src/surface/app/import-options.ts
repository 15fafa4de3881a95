import type { Digest } from '../../core/base/digest.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import { isOpenLicense, LICENSE_UNKNOWN } from '../../core/format/license-expression.ts';
import { chosenLocalName, localPackageName } from '../../core/format/local-name.ts';
import type { AddOptions, InstallResult } from './install-package.ts';

/** Said of every import, so that nobody takes the home's signature for the publisher's. */
export const UNSIGNED = 'nobody’s signature vouches for it: the package is signed with this home’s own key';

/** How a model of somebody else, which comes as no package, is to be installed. */
export interface ImportOptions extends AddOptions {
  readonly signal: AbortSignal;
  readonly isLicenseAccepted?: boolean | undefined;
  /** `NAME` or `local/NAME`, in the place of what follows from the file. */
  readonly name?: string | undefined;
  /** What a lock pins: other content is refused. */
  readonly expect?: { readonly contentDigest?: Digest | undefined } | undefined;
}

export interface ImportResult extends InstallResult {
  /** A reference to exactly these bytes, as far as there is one: `hf://acme/triage/f.gguf@COMMIT`. */
  readonly source: string;
  /** What was left out, for people. */
  readonly remarks: readonly string[];
}

/** The package name of an import: what the user chose, else what follows from the foreign name. @throws NAME_INVALID */
export function importName({ name }: ImportOptions, foreign: string): string {
  return name === undefined ? localPackageName(foreign) : chosenLocalName(name);
}

/**
 * A licence that is none of the well-known open ones may bind whoever uses the model. Call it before the first byte.
 * @param url where it can be read
 * @throws LICENSE_NOT_ACCEPTED
 */
export function requireImportAccepted(
  license: string,
  place: string,
  url: string | undefined,
  { isLicenseAccepted }: ImportOptions,
): void {
  if (isLicenseAccepted === true || license === LICENSE_UNKNOWN || isOpenLicense(license)) return;
  const where = url === undefined ? '' : `: ${url}`;
  throw new FreeholdError(
    'LICENSE_NOT_ACCEPTED',
    `${place} comes under ${license}, which must be accepted first${where}`,
    { detail: { name: place, license, licenseUrl: url ?? null } },
  );
}
