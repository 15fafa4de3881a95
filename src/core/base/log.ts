export type LogLevel = 'debug' | 'info' | 'warning' | 'error';

/** One structured line. `event` is noun-action (`engine-started`); fields never hold prompts, answers or secrets. */
export interface LogRecord {
  readonly level: LogLevel;
  readonly event: string;
  readonly fields?: Readonly<Record<string, string | number | boolean | null>>;
}

/** Where log records go; the surface decides. */
export type Log = (record: LogRecord) => void;

export const silentLog: Log = () => {};
