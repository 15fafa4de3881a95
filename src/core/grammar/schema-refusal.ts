import { FreeholdError } from '../base/errors.ts';

/** Of a path in a message; member names in it are the client's. */
const PATH_CHARACTERS_MAX = 300;

/** @param path JSON pointer in the schema as a fragment: `#/properties/age/multipleOf` */
export function schemaRefusal(path: string, what: string, hint?: string): FreeholdError {
  const shown = shownPath(path);
  return new FreeholdError('SCHEMA_NOT_SUPPORTED', `${shown}: ${what}`, {
    detail: { path: shown },
    ...(hint === undefined ? {} : { hint }),
  });
}

/** Without control characters, cut in the middle. */
export function shownPath(path: string): string {
  const plain = JSON.stringify(path).slice(1, -1).replaceAll('\\"', '"');
  if (plain.length <= PATH_CHARACTERS_MAX) return plain;
  const half = PATH_CHARACTERS_MAX / 2;
  return `${plain.slice(0, half)}…${plain.slice(-half)}`;
}
