/** One way in which a server accepts proof of who asks. RFC 9110 §11.6.1. */
export interface Challenge {
  /** In lower case: `bearer`, `basic`. */
  readonly scheme: string;
  /** Names in lower case. */
  readonly parameters: ReadonlyMap<string, string>;
}

/** Registries send one or two challenges of a few hundred characters. */
const CHALLENGE_CHARACTERS_MAX = 8_000;
const TOKEN = /[!#$%&'*+.^_`|~0-9A-Za-z-]+/y;
const PARAMETER = /\s*([!#$%&'*+.^_`|~0-9A-Za-z-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s",]+))\s*/y;

/** Reads a WWW-Authenticate header; what cannot be read ends the list. */
export function parseChallenges(header: string | undefined): Challenge[] {
  const text = (header ?? '').slice(0, CHALLENGE_CHARACTERS_MAX);
  const challenges: Challenge[] = [];
  let position = 0;
  const take = (pattern: RegExp): RegExpExecArray | null => {
    pattern.lastIndex = position;
    const match = pattern.exec(text);
    if (match !== null) position = pattern.lastIndex;
    return match;
  };
  while (position < text.length) {
    if (text[position] === ',' || text[position] === ' ' || text[position] === '\t') {
      position++;
      continue;
    }
    const scheme = take(TOKEN)?.[0].toLowerCase();
    if (scheme === undefined) break;
    const parameters = new Map<string, string>();
    for (;;) {
      const before = position;
      const match = take(PARAMETER);
      if (match === null) break;
      const [, name = '', inQuotes, plain = ''] = match;
      // A comma ends a parameter and separates challenges; only a further `name=` belongs to this one.
      parameters.set(name.toLowerCase(), inQuotes?.replace(/\\(.)/g, '$1') ?? plain);
      if (text[position] !== ',' || position === before) break;
      position++;
    }
    challenges.push({ scheme, parameters });
  }
  return challenges;
}
