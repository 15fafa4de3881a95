import { writeSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { openChannel } from '../../src/io/engine/sandbox/child-channel.ts';
import { CHANNEL_FD } from '../../src/io/engine/sandbox/launch-order.ts';
import { openNativeLlama } from '../fixtures/llama-library.ts';

// Loads files with llama.cpp inside of the sandbox, one after the other: a line of JSON in, a line of JSON out. When it
// starts it says how large it is, and when it
// ends without an answer, the file that it was given last has ended it.

/** What is asked: a model, or a model and an adapter for it. */
export interface LoadOrder {
  readonly file: string;
  readonly adapter?: string;
}

/** What llama.cpp made of it. */
export interface LoadAnswer {
  /** `runs`, or what was refused. */
  readonly outcome: 'runs' | 'model' | 'adapter' | 'context' | 'decode';
  /** Its last complaints, the last one last. */
  readonly complaints: readonly string[];
  /** Largest resident size so far. */
  readonly peakKiB: number;
}

const TEXT = 'hello the <|im_end|> é\n';

const llama = openNativeLlama();
const answer = (line: object) => writeSync(CHANNEL_FD, `${JSON.stringify(line)}\n`);
const judge = ({ file, adapter }: LoadOrder): LoadAnswer['outcome'] => {
  const model = llama.load(file);
  if (model === undefined) return 'model';
  try {
    return model.exercise(TEXT, adapter);
  } finally {
    model.close();
  }
};
createInterface({ input: openChannel() }).on('line', (line) => {
  const outcome = judge(JSON.parse(line) as LoadOrder);
  const peakKiB = process.resourceUsage().maxRSS;
  answer({ outcome, complaints: llama.complaints(), peakKiB } satisfies LoadAnswer);
});
answer({ outcome: 'runs', complaints: [], peakKiB: process.resourceUsage().maxRSS } satisfies LoadAnswer);
