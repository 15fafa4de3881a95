/** The range of a 206 answer. RFC 9110 §14.4. */
export interface ContentRange {
  readonly startBytes: number;
  readonly endBytes: number;
  readonly totalBytes: number;
}

/** Reads `bytes START-END/TOTAL`; undefined for anything else, an unknown total (`*`) included. */
export function parseContentRange(text: string | undefined): ContentRange | undefined {
  const match = /^bytes (\d{1,15})-(\d{1,15})\/(\d{1,15})$/.exec(text ?? '');
  if (match === null) return undefined;
  const range = { startBytes: Number(match[1]), endBytes: Number(match[2]), totalBytes: Number(match[3]) };
  return range.startBytes <= range.endBytes && range.endBytes < range.totalBytes ? range : undefined;
}

/** The `*` form of a 416 answer: how long the file really is. */
export function parseUnsatisfiedRange(text: string | undefined): number | undefined {
  const match = /^bytes \*\/(\d{1,15})$/.exec(text ?? '');
  return match === null ? undefined : Number(match[1]);
}

/** Reads Retry-After, seconds or a date. RFC 9110 §10.2.3. Undefined when absent or malformed; never negative. */
export function parseRetryAfterMs(text: string | undefined, nowMs: number): number | undefined {
  if (text === undefined) return undefined;
  if (/^\d{1,9}$/.test(text)) return Number(text) * 1000;
  const date = Date.parse(text);
  return Number.isNaN(date) ? undefined : Math.max(0, date - nowMs);
}

/** A Content-Length that is a plain number; undefined when absent or malformed. */
export function parseContentLength(text: string | undefined): number | undefined {
  return text !== undefined && /^\d{1,15}$/.test(text) ? Number(text) : undefined;
}

/** Only a strong tag may stand in If-Range. RFC 9110 §13.1.5. */
export function strongEtag(text: string | undefined): string | undefined {
  return text !== undefined && /^"[\x21\x23-\x7e]{0,500}"$/.test(text) ? text : undefined;
}

/** A date that may be sent back as it came; undefined for anything else. */
export function parseLastModified(text: string | undefined): string | undefined {
  return text !== undefined && /^[\x20-\x7e]{1,100}$/.test(text) && !Number.isNaN(Date.parse(text))
    ? text
    : undefined;
}
