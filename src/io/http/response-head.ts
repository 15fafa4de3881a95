/** As Node's own parser. */
export const HEAD_BYTES_MAX = 16 << 10;

/** The head of an answer that says plainly how long its body is. */
export interface ResponseHead {
  readonly status: number;
  /** Names in lower case; the first of each. */
  readonly headers: ReadonlyMap<string, string>;
  /** 0 of redirects and of failures that may pass, whose bodies nobody reads. */
  readonly bodyBytes: number;
  /** Where the body begins. */
  readonly headBytes: number;
}

const CR = 0x0d;
const LF = 0x0a;
const STATUS_LINE = /^HTTP\/1\.[01] ([2-5]\d\d)(?: [\t\x20-\x7e\x80-\xff]*)?$/;
/** RFC 9110 §5.1 and §5.5. */
const FIELD_LINE = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t\x20-\x7e\x80-\xff]*)$/;

/**
 * Reads the head of an HTTP/1.1 answer (RFC 9112) with the strictness that leaves no doubt where the body begins and ends:
 * CRLF only, nothing folded, one Content-Length, no Transfer-Encoding. What is unusable here may still be a right answer.
 * @param bytes the answer as far as it has come
 */
export function parseResponseHead(bytes: Uint8Array): ResponseHead | 'incomplete' | 'unusable' {
  const headBytes = endOfHead(bytes);
  if (headBytes === undefined) return bytes.byteLength > HEAD_BYTES_MAX ? 'unusable' : 'incomplete';
  if (headBytes > HEAD_BYTES_MAX) return 'unusable';
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, headBytes - 4).toString('latin1');
  const [statusLine = '', ...lines] = text.split('\r\n');
  const status = STATUS_LINE.exec(statusLine)?.[1];
  if (status === undefined) return 'unusable';
  const headers = new Map<string, string>();
  for (const line of lines) {
    const [, name, value] = FIELD_LINE.exec(line) ?? [];
    if (name === undefined || value === undefined) return 'unusable';
    const key = name.toLowerCase();
    if (key === 'content-length' && headers.has(key)) return 'unusable';
    if (!headers.has(key)) headers.set(key, value.trimEnd());
  }
  if (/^(?:[35]|408|425|429)/.test(status))
    return { status: Number(status), headers, bodyBytes: 0, headBytes };
  const length = headers.get('content-length') ?? '';
  if (headers.has('transfer-encoding') || !/^\d{1,15}$/.test(length)) return 'unusable';
  return { status: Number(status), headers, bodyBytes: Number(length), headBytes };
}

/** Behind the first empty line. */
function endOfHead(bytes: Uint8Array): number | undefined {
  for (let at = bytes.indexOf(LF); at >= 0; at = bytes.indexOf(LF, at + 1)) {
    if (bytes[at - 1] === CR && bytes[at - 2] === LF && bytes[at - 3] === CR) return at + 1;
  }
  return undefined;
}
