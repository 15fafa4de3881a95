import type { ErrorCode } from '../base/error-table.ts';
import type { FreeholdError } from '../base/errors.ts';

/** The error shape of every OpenAI route, alone as a body or as an event in the middle of a stream. */
export interface OpenAiErrorBody {
  readonly error: {
    readonly message: string;
    readonly type: string;
    readonly param: string | null;
    readonly code: string;
  };
}

export interface OpenAiErrorResponse {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: OpenAiErrorBody;
}

/** Where OpenAI has a name of its own that programs look for. All others are our codes in lower case. */
const WELL_KNOWN_CODES: Partial<Record<ErrorCode, string>> = {
  CONTEXT_EXCEEDED: 'context_length_exceeded',
  FIELD_NOT_SUPPORTED: 'unsupported_parameter',
};

/** A model loads or an engine restarts in about this time; clients of OpenAI wait so long before they try again. */
const RETRY_AFTER_SECONDS = 2;

/** The one place where our errors become OpenAI's. */
export function encodeOpenAiError(error: FreeholdError): OpenAiErrorResponse {
  return {
    status: error.httpStatus,
    headers: {
      // OpenAI's clients repeat every 5xx twice; a package with a wrong digest would be hashed three times.
      'x-should-retry': String(error.isTemporary),
      ...(error.isTemporary ? { 'retry-after': String(RETRY_AFTER_SECONDS) } : {}),
    },
    body: encodeOpenAiErrorBody(error),
  };
}

/** The body alone, for an event in a stream whose status was sent already. */
export function encodeOpenAiErrorBody(error: FreeholdError): OpenAiErrorBody {
  const param = error.detail.param ?? (error.code === 'MODEL_NOT_FOUND' ? 'model' : null);
  return {
    error: {
      message: error.hint === '' ? error.message : `${error.message} (${error.hint})`,
      type: error.httpStatus >= 500 ? 'server_error' : 'invalid_request_error',
      param: typeof param === 'string' ? param : null,
      code: WELL_KNOWN_CODES[error.code] ?? error.code.toLowerCase(),
    },
  };
}
