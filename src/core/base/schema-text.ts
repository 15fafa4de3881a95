import { z } from 'zod';
import { FreeholdError } from './errors.ts';
import { quoted } from './ids.ts';

// Apart from `config-file.ts`: most starts need no YAML parser, which takes a tenth of their time.

/**
 * A schema for text that one of our parsers reads: the parser's FreeholdError becomes an issue at the path of the
 * text. `z.strictObject({ digest: textParsedBy(Digest.parse) })`
 */
export function textParsedBy<Value>(parse: (text: string) => Value) {
  return z.string().transform((text, context): Value => {
    try {
      return parse(text);
    } catch (error) {
      if (!(error instanceof FreeholdError)) throw error;
      context.addIssue(`${error.message} (${error.hint})`);
      return z.NEVER;
    }
  });
}

/** A place in a document as messages show it: `sources["qwen2.5"][0].url`; the root is `(root)`. */
export function pathText(path: readonly PropertyKey[]): string {
  let text = '';
  for (const part of path) {
    if (typeof part === 'number') text += `[${part}]`;
    else if (/^[A-Za-z_][\w-]*$/.test(String(part))) text += text === '' ? String(part) : `.${String(part)}`;
    else text += `[${quoted(String(part))}]`;
  }
  return text === '' ? '(root)' : text;
}
