import type { z } from 'zod';
import { FreeholdError } from './errors.ts';
import { parseStrictJson, type StrictJsonOptions } from './strict-json.ts';

/**
 * JSON with one meaning, under limits, of the shape that a schema says.
 * @throws the code of the options, naming label and place
 */
export function parseJsonDocument<Schema extends z.ZodType>(
  bytes: Uint8Array,
  schema: Schema,
  { hint, ...options }: StrictJsonOptions & { readonly hint?: string },
): z.output<Schema> {
  const result = schema.safeParse(parseStrictJson(bytes, options));
  if (result.success) return result.data;
  throw new FreeholdError(options.code, `${options.label}: ${describeIssues(result.error)}`, {
    ...(hint === undefined ? {} : { hint }),
  });
}

/** The first issues of a zod error as `path: message`. */
export function describeIssues(error: z.ZodError): string {
  const shown = error.issues.slice(0, 3).map((issue) => {
    const path = issue.path.map(String).join('.');
    return path === '' ? issue.message : `${path}: ${issue.message}`;
  });
  return shown.join('; ');
}
