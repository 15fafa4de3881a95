import { Hono, type MiddlewareHandler } from 'hono';
import { FreeholdError } from '../../core/base/errors.ts';
import { encodeOpenAiError } from '../../core/wire/openai-errors.ts';
import type { App, AppEnvironment, AppOptions } from './app-environment.ts';
import { answerError, describeFailure, refuseOtherMethods, routeNotFound } from './failure.ts';
import { registerOpenAiRoutes } from './openai-routes.ts';
import { parseAllowedHosts, requireAllowedHost, requireOwnOrigin } from './request-guard.ts';

/** Characters that need no quoting in a log or a shell. */
const CLIENT_REQUEST_ID = /^[A-Za-z0-9._:-]{1,128}$/;
/** A path as the log shows it. */
const LOGGED_PATH_CHARACTERS_MAX = 200;

/**
 * Every HTTP route of the server. Drive it in process with `app.request(path, { headers: { host: 'localhost' } })`,
 * or listen with `startServer`.
 * @throws CONFIG_INVALID for a wrong entry of `allowedHosts`
 */
export function createApp(options: AppOptions): App {
  const allowedHosts = parseAllowedHosts(options.allowedHosts ?? []);
  const app: App = new Hono<AppEnvironment>();
  app.onError((thrown, context) => answerError(context, thrown, options.log));
  app.notFound((context) => answerError(context, routeNotFound(context), options.log));
  app.use(identifyAndLog(options));
  app.use(async (context, next) => {
    const host = context.req.header('host');
    requireAllowedHost(host, allowedHosts);
    // RFC 9112 §3.2.2: a target in absolute form overrides the Host header.
    requireAllowedHost(new URL(context.req.url).host, allowedHosts);
    requireOwnOrigin(context.req.header('origin'), host);
    if (context.env?.draining?.aborted) throw new FreeholdError('BUSY', 'the server is stopping');
    await next();
  });
  registerHealthRoutes(app, options);
  registerOpenAiRoutes(app, options);
  return app;
}

function registerHealthRoutes(app: App, { host, version, log }: AppOptions): void {
  app.get('/healthz', (context) => context.json({ status: 'ok', version }));
  app.get('/readyz', async (context) => {
    try {
      await host.requireReady();
      return context.json({ status: 'ready' });
    } catch (thrown) {
      const error = describeFailure(context, thrown, log);
      // Whatever keeps it from serving: for whoever asks here, the answer is "not now".
      return context.json(encodeOpenAiError(error).body, 503);
    }
  });
  refuseOtherMethods(app, '/healthz', 'GET');
  refuseOtherMethods(app, '/readyz', 'GET');
}

function identifyAndLog({ clock, random, log }: AppOptions): MiddlewareHandler<AppEnvironment> {
  return async (context, next) => {
    const wished = context.req.header('x-request-id');
    const requestId =
      wished !== undefined && CLIENT_REQUEST_ID.test(wished)
        ? wished
        : `req_${Buffer.from(random(16)).toString('hex')}`;
    context.set('requestId', requestId);
    context.header('x-request-id', requestId);
    context.header('x-content-type-options', 'nosniff');
    const startMs = clock.monotonicMs();
    await next();
    log({
      level: context.res.status >= 500 ? 'warning' : 'info',
      event: 'request-answered',
      fields: {
        requestId,
        method: context.req.method,
        path: context.req.path.slice(0, LOGGED_PATH_CHARACTERS_MAX),
        status: context.res.status,
        code: context.get('errorCode') ?? null,
        durationMs: Math.round(clock.monotonicMs() - startMs),
      },
    });
  };
}
