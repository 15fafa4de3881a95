import { z } from 'zod';
import { FreeholdError } from '../base/errors.ts';

/** A place in a body, short enough to be shown and logged. */
const PARAM_CHARACTERS_MAX = 128;

/** Text that has a UTF-8 form: a lone surrogate would silently become U+FFFD on its way to the tokenizer. */
export const wellFormedText = () =>
  z.string().refine((text) => text.isWellFormed(), { error: 'contains half of a surrogate pair' });

/**
 * Checks an object whose fields were selected before.
 * @param path how `param` names the object: empty for the body, `tools[0]`
 * @throws REQUEST_INVALID with `detail.param` as a path: `messages[0].content`
 */
export function parseShape<Shape extends z.ZodType>(
  schema: Shape,
  value: unknown,
  path = '',
): z.infer<Shape> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  throw invalid(joinPath(path, issue?.path ?? []), issue?.message ?? 'is wrong');
}

/** The error for one wrong field. */
export function invalid(param: string, reason: string): FreeholdError {
  const place = param.slice(0, PARAM_CHARACTERS_MAX);
  return new FreeholdError('REQUEST_INVALID', `${place}: ${reason}`, { detail: { param: place } });
}

/** The error for a field, or a value of it, that this version does not honour. */
export function unsupported(param: string, reason: string, hint?: string): FreeholdError {
  const place = param.slice(0, PARAM_CHARACTERS_MAX);
  return new FreeholdError('FIELD_NOT_SUPPORTED', `${place}: ${reason}`, {
    ...(hint === undefined ? {} : { hint }),
    detail: { param: place },
  });
}

/** `messages` and `0`, `content` → `messages[0].content`. */
export function joinPath(start: string, keys: readonly PropertyKey[]): string {
  return keys.reduce<string>((path, key) => {
    if (typeof key === 'number') return `${path}[${key}]`;
    return path === '' ? String(key) : `${path}.${String(key)}`;
  }, start);
}
