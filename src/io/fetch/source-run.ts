import type { Progress } from '../../core/base/progress.ts';
import type { PartialFile } from '../files/partial-file.ts';
import type { ByteMeter } from '../http/byte-meter.ts';
import type { FetchLimits } from '../http/fetch-limits.ts';
import type { Environment } from '../http/http-connections.ts';

/** What every kind of source gets: the file to fill, and how to behave meanwhile. */
export interface SourceRun {
  readonly partial: PartialFile;
  readonly meter: ByteMeter;
  readonly progress: Progress;
  readonly limits: FetchLimits;
  readonly signal: AbortSignal;
  /** Proxies, HF_TOKEN, the configuration of pip. */
  readonly environment: Environment;
  /** A folder of this fetch alone, on the disk of the cache; may not exist yet. */
  readonly scratchFolder: string;
}
