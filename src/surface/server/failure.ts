import type { ContentfulStatusCode } from 'hono/utils/http-status';
import { FreeholdError, toFreeholdError } from '../../core/base/errors.ts';
import { quoted } from '../../core/base/ids.ts';
import type { Log } from '../../core/base/log.ts';
import { encodeOpenAiError } from '../../core/wire/openai-errors.ts';
import type { App, AppContext } from './app-environment.ts';

export function routeNotFound(context: AppContext): FreeholdError {
  return new FreeholdError('ROUTE_NOT_FOUND', `there is no ${quoted(context.req.path)}`);
}

/** The one place where an error becomes an HTTP response. */
export function answerError(context: AppContext, thrown: unknown, log: Log): Response {
  const error = describeFailure(context, thrown, log);
  const { status, headers, body } = encodeOpenAiError(error);
  for (const [name, value] of Object.entries(headers)) context.header(name, value);
  // The rest of the body was not read, so the connection cannot go on.
  if (error.code === 'BODY_TOO_LARGE') context.header('connection', 'close');
  return context.json(body, status as ContentfulStatusCode);
}

/**
 * What the client is told. Bugs are logged with their stack and named by request id only: the text of an unforeseen
 * exception may hold anything.
 */
export function describeFailure(context: AppContext, thrown: unknown, log: Log): FreeholdError {
  const error = settleFailure(context, thrown);
  context.set('errorCode', error.code);
  if (error.code !== 'INTERNAL') return error;
  const requestId = context.get('requestId');
  const cause = error.cause instanceof Error ? error.cause : error;
  log({
    level: 'error',
    event: 'request-crashed',
    fields: { requestId, stack: cause.stack ?? cause.message },
  });
  return new FreeholdError('INTERNAL', `an internal error; the log has it under ${requestId}`);
}

/** An engine that is cancelled says so, or throws the reason of its signal: the reason decides what to tell. */
function settleFailure(context: AppContext, thrown: unknown): FreeholdError {
  const error = toFreeholdError(thrown);
  const stopping = context.env?.stopping;
  const { signal } = context.req.raw;
  const isCancelled = error.code === 'CANCELLED' || thrown === stopping?.reason || thrown === signal.reason;
  if (isCancelled && stopping?.aborted) return toFreeholdError(stopping.reason);
  if (isCancelled && signal.aborted) return new FreeholdError('CANCELLED', 'the client hung up');
  return error;
}

/** Register it after the route itself. */
export function refuseOtherMethods(app: App, path: string, method: 'GET' | 'POST'): void {
  app.all(path, (context) => {
    context.header('allow', method === 'GET' ? 'GET, HEAD' : method);
    throw new FreeholdError('METHOD_NOT_ALLOWED', `${context.req.path} does not take ${context.req.method}`, {
      hint: `use ${method}`,
    });
  });
}
