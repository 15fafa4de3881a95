import type { Context, Hono } from 'hono';
import type { Clock } from '../../core/base/clock.ts';
import type { ModelHost } from '../../core/base/engine-port.ts';
import type { Log } from '../../core/base/log.ts';

/** Unpredictable bytes, for identifiers. */
export type RandomBytes = (count: number) => Uint8Array;

export interface AppOptions {
  readonly host: ModelHost;
  readonly clock: Clock;
  readonly random: RandomBytes;
  readonly log: Log;
  /** Of Freehold, for `/healthz` and the fingerprint of answers. */
  readonly version: string;
  /** Host headers besides the loopback names: `NAME` or `NAME:PORT`. */
  readonly allowedHosts?: readonly string[];
}

export interface AppEnvironment {
  /** What the listener hands over; all absent when a test drives the app in process. */
  readonly Bindings: {
    /** Aborted when the server takes no new work. */
    readonly draining?: AbortSignal;
    /** Aborted when running work must end, with the error to report. */
    readonly stopping?: AbortSignal;
    /** The connection's own response, for clients that must be cut off. */
    readonly outgoing?: { destroy(): unknown };
  };
  readonly Variables: {
    requestId: string;
    /** Set by whoever answers with an error. */
    errorCode: string | undefined;
  };
}

export type App = Hono<AppEnvironment>;
export type AppContext = Context<AppEnvironment>;
