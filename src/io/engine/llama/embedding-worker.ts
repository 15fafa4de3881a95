import { FreeholdError } from '../../../core/base/errors.ts';
import { runEmbedding } from './embedding.ts';
import type { NativeModel } from './native-model.ts';
import type { ChildMessage, EmbedMessage } from './protocol.ts';

export interface EmbeddingHost {
  send(message: ChildMessage): Promise<void>;
  fail(id: number, thrown: unknown): Promise<void>;
}

/** Works on one embedding request after the other: an input takes milliseconds. */
export class EmbeddingWorker {
  readonly #model: NativeModel;
  readonly #host: EmbeddingHost;
  readonly #pending: EmbedMessage[] = [];
  #runningId: number | undefined;

  constructor(model: NativeModel, host: EmbeddingHost) {
    this.#model = model;
    this.#host = host;
  }

  start(message: EmbedMessage): void {
    this.#pending.push(message);
    if (this.#runningId === undefined) void this.#work();
  }

  /** @returns false when there is no such request */
  cancel(id: number): boolean {
    if (this.#runningId === id) {
      this.#model.context.abort();
      return true;
    }
    const index = this.#pending.findIndex((message) => message.id === id);
    if (index < 0) return false;
    this.#pending.splice(index, 1);
    void this.#host.fail(id, cancelled());
    return true;
  }

  async #work(): Promise<void> {
    for (let message = this.#pending.shift(); message !== undefined; message = this.#pending.shift()) {
      this.#runningId = message.id;
      this.#model.context.resume();
      try {
        const isDone = await runEmbedding(this.#model, message, (answer) => this.#host.send(answer));
        if (!isDone) await this.#host.fail(message.id, cancelled());
      } catch (thrown) {
        await this.#host.fail(message.id, thrown);
      }
      this.#runningId = undefined;
    }
  }
}

function cancelled(): FreeholdError {
  return new FreeholdError('CANCELLED', 'cancelled');
}
