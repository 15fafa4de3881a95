/** What a package says when nobody told under which licence its model comes. */
export const LICENSE_UNKNOWN = 'LicenseRef-Unknown';

/** SPDX allows more; a name that people read fits. */
const LICENSE_REF_CHARACTERS_MAX = 100;

/**
 * Licences of the SPDX list under which models and their software are given away without conditions on their use.
 * Hugging Face and `general.license` of GGUF files write the same identifiers in lower case.
 */
const OPEN_LICENSES = [
  '0BSD',
  'AFL-3.0',
  'AGPL-3.0',
  'AGPL-3.0-only',
  'AGPL-3.0-or-later',
  'Apache-2.0',
  'Artistic-2.0',
  'BSD-2-Clause',
  'BSD-3-Clause',
  'BSD-3-Clause-Clear',
  'BSL-1.0',
  'CC-BY-2.0',
  'CC-BY-2.5',
  'CC-BY-3.0',
  'CC-BY-4.0',
  'CC-BY-SA-3.0',
  'CC-BY-SA-4.0',
  'CC0-1.0',
  'CDLA-Permissive-1.0',
  'CDLA-Permissive-2.0',
  'ECL-2.0',
  'EPL-1.0',
  'EPL-2.0',
  'EUPL-1.1',
  'EUPL-1.2',
  'GPL-2.0',
  'GPL-2.0-only',
  'GPL-2.0-or-later',
  'GPL-3.0',
  'GPL-3.0-only',
  'GPL-3.0-or-later',
  'ISC',
  'LGPL-2.1',
  'LGPL-3.0',
  'MIT',
  'MIT-0',
  'MPL-2.0',
  'MS-PL',
  'MulanPSL-2.0',
  'NCSA',
  'OSL-3.0',
  'PostgreSQL',
  'Unlicense',
  'Zlib',
] as const;

const SPELLING = new Map<string, string>(OPEN_LICENSES.map((license) => [license.toLowerCase(), license]));

/**
 * An SPDX expression for what a file or a model card states: a known identifier, or several with AND and OR, in SPDX's
 * spelling; anything else as `LicenseRef-…`, so that no licence is passed off as one that it is not.
 * @param stated `apache-2.0`, `Apache 2.0`, `llama3.1`, `other`; absent: `LICENSE_UNKNOWN`
 */
export function licenseExpression(stated: string | undefined): string {
  const text = stated?.trim() ?? '';
  if (text === '' || /^(?:unknown|none|no license)$/i.test(text)) return LICENSE_UNKNOWN;
  const known = knownExpression(text) ?? knownExpression(text.replace(/\s+v?(?=\d)/gi, '-'));
  if (known !== undefined) return known;
  const name = text
    .replace(/^LicenseRef-/i, '')
    .replace(/[^A-Za-z0-9.]+/g, '-')
    .replace(/^[-.]+|[-.]+$/g, '')
    .slice(0, LICENSE_REF_CHARACTERS_MAX);
  return name === '' ? LICENSE_UNKNOWN : `LicenseRef-${name}`;
}

/** Whether every licence of the expression gives the model away without conditions on its use. */
export function isOpenLicense(expression: string): boolean {
  return knownExpression(expression) !== undefined;
}

function knownExpression(text: string): string | undefined {
  const words = text.split(/\s+/);
  const spelled = words.map((word, index) => {
    const isOperator = index % 2 === 1;
    if (isOperator) return /^(?:and|or)$/i.test(word) ? word.toUpperCase() : undefined;
    return SPELLING.get(word.toLowerCase());
  });
  if (words.length % 2 === 0 || spelled.includes(undefined)) return undefined;
  return spelled.join(' ');
}
