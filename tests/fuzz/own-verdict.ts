import { memoryByteSource } from '../../src/core/base/byte-source.ts';
import { FreeholdError } from '../../src/core/base/errors.ts';
import { verifyAdapter } from '../../src/core/format/gguf/adapter-verification.ts';
import { readGguf } from '../../src/core/format/gguf/gguf-reader.ts';
import type { GgufFile } from '../../src/core/format/gguf/gguf-types.ts';
import { verifyModelGguf } from '../../src/core/format/gguf/gguf-verification.ts';
import { countingSource, cpuMsSince } from '../fixtures/gguf-mutation-run.ts';
import { shapeOf } from './llama-oracle.ts';

/** What Freehold does with a file. */
export interface OwnVerdict {
  /** The reader takes it, and the gate before native code does: `gate`. Only the reader: `reader`. Neither: `nobody`. */
  readonly acceptedBy: 'gate' | 'reader' | 'nobody';
  /** Code and message without names and numbers; empty when accepted. */
  readonly reason: string;
  /** The message as it is. */
  readonly said: string;
  /** Something else than a refusal was thrown: a fault of ours. */
  readonly fault: string | undefined;
  /** Of processor time: a busy machine is no fault of ours. */
  readonly durationMs: number;
  readonly bytesRead: number;
}

const CODES = /^(GGUF_INVALID|GGUF_LIMIT|ADAPTER_INVALID)$/;

/** Reads and verifies a model; never throws. */
export function judgeModel(bytes: Uint8Array): Promise<OwnVerdict> {
  return judge(bytes, (file) => verifyModelGguf(file));
}

/** Reads and verifies an adapter for this base; never throws. */
export async function judgeAdapter(bytes: Uint8Array, base: Uint8Array): Promise<OwnVerdict> {
  const baseFile = await readGguf(memoryByteSource(base), 'base.gguf');
  return judge(bytes, (file) => verifyAdapter(file, baseFile));
}

async function judge(bytes: Uint8Array, verify: (file: GgufFile) => unknown): Promise<OwnVerdict> {
  const source = countingSource(bytes);
  const start = process.cpuUsage();
  let acceptedBy: OwnVerdict['acceptedBy'] = 'nobody';
  let reason = '';
  let said = '';
  let fault: string | undefined;
  try {
    const file = await readGguf(source, 'file.gguf');
    acceptedBy = 'reader';
    verify(file);
    acceptedBy = 'gate';
  } catch (error) {
    if (error instanceof FreeholdError && CODES.test(error.code)) {
      said = error.message;
      reason = `${error.code} ${shapeOf(error.message.replace('file.gguf: ', ''))}`;
    } else {
      fault = error instanceof Error ? (error.stack ?? error.message) : String(error);
    }
  }
  const durationMs = cpuMsSince(start);
  return { acceptedBy, reason, said, fault, durationMs, bytesRead: source.bytesRead };
}
