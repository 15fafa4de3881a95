import os from 'node:os';
import path from 'node:path';
import { z } from 'zod';
import type { ThreadChoice, ThreadChoices } from '../../core/base/thread-choices.ts';
import { readGuarded, writeFileDurably } from './durable-file.ts';
import { makePrivateFolder } from './private-folder.ts';

/** A few models in a few settings; the oldest measurements go. */
export const THREAD_CHOICES_MAX = 256;
/** 256 entries of at most 700 bytes. */
const FILE_BYTES_MAX = 1 << 18;
const KEY_CHARACTERS_MAX = 256;
const FILE_NAME = 'threads.json';

const threads = z.int().min(1).max(1024);
const entrySchema = z.strictObject({
  machine: z.string().max(KEY_CHARACTERS_MAX),
  key: z.string().max(KEY_CHARACTERS_MAX),
  decode: threads,
  batch: threads,
  tokensPerCpuSecond: z.number().positive(),
});
const fileSchema = z.strictObject({
  schemaVersion: z.literal(1),
  /** The newest last. */
  choices: z.array(entrySchema).max(THREAD_CHOICES_MAX),
});

/** A measurement as it is kept. */
export type StoredThreadChoice = z.infer<typeof entrySchema>;

/** What is kept of measurements, for this machine and for those that share the home. */
export interface StoredThreadChoices extends ThreadChoices {
  /** Those of this machine, the newest last. */
  list(): Promise<readonly StoredThreadChoice[]>;
}

/**
 * What measurements depend on: the same home may be mounted on other machines, and a process may be given fewer
 * processors than there are.
 */
export function machineFingerprint(): string {
  const processors = os.cpus();
  const model = processors[0]?.model.trim() ?? 'unknown';
  return `${os.arch()}, ${model}, ${processors.length} processors, ${os.availableParallelism()} usable`;
}

/**
 * Measurements in `threads.json` of the home's cache. A file that cannot be read counts as empty, and one that cannot be
 * written is left: all that is lost is a second at the next load. Of two processes that write at once, one loses its entry.
 */
export function openThreadChoices(cacheFolder: string, machine = machineFingerprint()): StoredThreadChoices {
  const file = path.join(cacheFolder, FILE_NAME);
  const shortMachine = machine.slice(0, KEY_CHARACTERS_MAX);
  let lastWrite: Promise<void> = Promise.resolve();
  const ofThisMachine = async () =>
    (await readChoices(file)).filter((entry) => entry.machine === shortMachine);
  return {
    list: ofThisMachine,
    async read(key) {
      const found = (await ofThisMachine()).findLast((entry) => entry.key === key);
      if (found === undefined) return undefined;
      const { decode, batch, tokensPerCpuSecond } = found;
      return { decode, batch, tokensPerCpuSecond };
    },
    write(key, choice) {
      lastWrite = lastWrite.then(() => writeChoice(file, { ...choice, key, machine: shortMachine }));
      return lastWrite;
    },
  };
}

async function readChoices(file: string): Promise<StoredThreadChoice[]> {
  try {
    const guard = { bytesMax: FILE_BYTES_MAX, forbiddenMode: 0o022, repair: 'rm' };
    const text = await readGuarded(file, guard);
    return text === undefined ? [] : fileSchema.parse(JSON.parse(text)).choices;
  } catch {
    return [];
  }
}

async function writeChoice(
  file: string,
  { machine, key, decode, batch, tokensPerCpuSecond }: ThreadChoice & { machine: string; key: string },
): Promise<void> {
  try {
    const entry = entrySchema.parse({ machine, key, decode, batch, tokensPerCpuSecond });
    const others = (await readChoices(file)).filter(
      (other) => other.machine !== machine || other.key !== key,
    );
    const choices = [...others, entry].slice(-THREAD_CHOICES_MAX);
    const text = `${JSON.stringify({ schemaVersion: 1, choices }, null, 1)}\n`;
    await makePrivateFolder(path.dirname(file));
    await writeFileDurably(file, Buffer.from(text), { mode: 0o600 });
  } catch {
    // The model works without.
  }
}
