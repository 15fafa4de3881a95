import { spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import path from 'node:path';
import { text } from 'node:stream/consumers';

export interface ClientJob {
  readonly url: string;
  /** Sent all at once, one connection each. */
  readonly bodies: readonly object[];
}

export interface StreamResult {
  /** From the request to the first text, and to the last. */
  readonly firstMs: number;
  readonly lastMs: number;
  readonly promptTokens: number;
  readonly completionTokens: number;
  readonly finish: string;
  readonly text: string;
}

export interface ClientResult {
  readonly streams: readonly StreamResult[];
  readonly wallMs: number;
}

/** Runs a job in a process of its own. @throws when one answer is not whole, with what the server said */
export async function runClient(job: ClientJob): Promise<ClientResult> {
  const child = spawn(process.execPath, [path.join(import.meta.dirname, 'stream-client.ts')], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  child.stdin.end(JSON.stringify(job));
  const result = JSON.parse(await text(child.stdout)) as ClientResult | { failure: string };
  if ('failure' in result) throw new Error(`${job.url}: ${result.failure}`);
  return result;
}

/** End tokens of the starter: an answer ends at `max_tokens` only. Both servers honour this. */
export const NEVER_ENDING = { logit_bias: { '0': -100, '2': -100 } } as const;
export const STREAMED = { stream: true, stream_options: { include_usage: true } } as const;

const WORDS = (
  'river stone garden winter letter market bridge window morning paper silver forest harbour music teacher ' +
  'engine village summer doctor island number story colour animal question mountain kitchen journey evening people'
).split(' ');

/** Text that no server has seen before: what a cache could reuse of it is a token or two. */
export function freshText(words: number): string {
  return Array.from({ length: words }, () => WORDS[randomInt(WORDS.length)]).join(' ');
}
