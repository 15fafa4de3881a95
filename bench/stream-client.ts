/**
 * Sends requests to a server and reads their event streams, in a process of its own, so that neither side pays for the
 * client in its own process. A job comes as JSON on stdin, the result goes as JSON to stdout; see `client.ts`.
 */
import http from 'node:http';
import process from 'node:process';
import { json } from 'node:stream/consumers';
import type { ClientJob, ClientResult, StreamResult } from './client.ts';

interface Chunk {
  readonly choices?: readonly {
    readonly text?: string;
    readonly delta?: { readonly content?: string | null };
    readonly finish_reason?: string | null;
  }[];
  readonly usage?: { readonly prompt_tokens: number; readonly completion_tokens: number } | null;
  readonly error?: unknown;
}

/** What has been seen of one stream. */
class StreamReader {
  readonly #startedMs = performance.now();
  #rest = '';
  #firstMs: number | undefined;
  #lastMs = 0;
  #finish: string | undefined;
  #usage: Chunk['usage'];
  #isDone = false;
  #text = '';

  push(part: string): void {
    const lines = (this.#rest + part).split('\n');
    this.#rest = lines.pop() ?? '';
    for (const line of lines) if (line.startsWith('data: ')) this.#event(line.slice('data: '.length).trim());
  }

  #event(data: string): void {
    if (data === '[DONE]') {
      this.#isDone = true;
      return;
    }
    const chunk = JSON.parse(data) as Chunk;
    if (chunk.error !== undefined) throw new Error(`the server says ${JSON.stringify(chunk.error)}`);
    this.#usage = chunk.usage ?? this.#usage;
    const [choice] = chunk.choices ?? [];
    this.#finish = choice?.finish_reason ?? this.#finish;
    const text = choice?.text ?? choice?.delta?.content ?? '';
    if (text === '') return;
    this.#text += text;
    this.#lastMs = performance.now() - this.#startedMs;
    this.#firstMs ??= this.#lastMs;
  }

  /** @throws unless the answer was whole */
  result(): StreamResult {
    if (!this.#isDone || this.#finish === undefined || this.#usage == null || this.#firstMs === undefined) {
      throw new Error(`not a whole answer: done ${this.#isDone}, finish ${this.#finish}`);
    }
    return {
      firstMs: this.#firstMs,
      lastMs: this.#lastMs,
      promptTokens: this.#usage.prompt_tokens,
      completionTokens: this.#usage.completion_tokens,
      finish: this.#finish,
      text: this.#text,
    };
  }
}

function ask(url: string, body: unknown): Promise<StreamResult> {
  const { promise, resolve, reject } = Promise.withResolvers<StreamResult>();
  const reader = new StreamReader();
  const options = { method: 'POST', headers: { 'content-type': 'application/json' } };
  const request = http.request(url, options, (response) => {
    const parts: string[] = [];
    response.setEncoding('utf8');
    response.on('error', reject);
    response.on('data', (part: string) => {
      if (response.statusCode !== 200) parts.push(part);
      else {
        try {
          reader.push(part);
        } catch (error) {
          reject(error);
        }
      }
    });
    response.on('end', () => {
      try {
        if (response.statusCode !== 200) throw new Error(`${response.statusCode}: ${parts.join('')}`);
        resolve(reader.result());
      } catch (error) {
        reject(error);
      }
    });
  });
  request.on('error', reject);
  request.end(JSON.stringify(body));
  return promise;
}

const job = (await json(process.stdin)) as ClientJob;
const startedMs = performance.now();
try {
  const streams = await Promise.all(job.bodies.map((body) => ask(job.url, body)));
  const result: ClientResult = { streams, wallMs: performance.now() - startedMs };
  process.stdout.write(JSON.stringify(result));
} catch (error) {
  process.stdout.write(JSON.stringify({ failure: String(error) }));
}
