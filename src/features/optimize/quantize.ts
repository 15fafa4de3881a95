import { realpath, rm, statfs } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { collectBytes } from '../../core/base/byte-source.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import type { Quantization } from '../../core/format/quantization.ts';
import { launchChild } from '../../io/engine/sandbox/launch.ts';

export interface QuantizeRequest {
  /** GGUF files in shard order, whose headers were read and found sound. */
  readonly inputs: readonly string[];
  /** A file that does not exist yet, in a folder of its own: the child may write anywhere in that folder. */
  readonly output: string;
  readonly quantization: Quantization;
  /** Whether weights that are quantized already may be quantized once more. */
  readonly mayRequantize: boolean;
  readonly signal?: AbortSignal;
}

export interface QuantizeResult {
  /** Name and version of what made the file, for the lineage record. */
  readonly tool: string;
}

/** What the child reports: one JSON line. */
const reportSchema = z.union([
  z.strictObject({ kind: z.literal('done'), tool: z.string().max(64) }),
  z.strictObject({ kind: z.literal('failed'), message: z.string().max(2000) }),
]);

const REPORT_BYTES_MAX = 16 * 1024;
/** A few blocks may stay free on a full disk. */
const FULL_DISK_BYTES = 64 * 1024;
/** `quantize-child` beside this file: `.ts` in a checkout, `.js` when published. */
const CHILD = path.join(import.meta.dirname, `quantize-child${path.extname(fileURLToPath(import.meta.url))}`);

/**
 * Quantizes a model with llama.cpp's own `llama_model_quantize`, in a sandboxed child that can read the inputs and
 * write into the output's folder, and nothing else. One thread per tensor row makes the result independent of how many
 * run: the same input gives the same bytes.
 * @throws ENGINE_FAILED with llama.cpp's reason, DISK_FULL, CANCELLED
 */
export async function quantizeWeights(request: QuantizeRequest): Promise<QuantizeResult> {
  const { quantization, mayRequantize, signal } = request;
  const inputs = await Promise.all(request.inputs.map((file) => realpath(file)));
  const folder = await realpath(path.dirname(request.output));
  const output = path.join(folder, path.basename(request.output));
  const order = { input: inputs[0], output, fileType: quantization.fileType, mayRequantize };
  const child = await launchChild(
    {
      script: CHILD,
      args: [JSON.stringify(order)],
      readPaths: inputs,
      writePaths: [folder],
      title: 'freehold-quantize',
    },
    signal,
  );
  const kill = () => child.process.kill('SIGKILL');
  signal?.addEventListener('abort', kill, { once: true });
  try {
    const bytes = await collectBytes(child.channel, REPORT_BYTES_MAX).catch(() => Buffer.alloc(0));
    signal?.throwIfAborted();
    const report = parseReport(bytes);
    if (report?.kind === 'done') return { tool: report.tool };
    const isFull = await hasNoRoom(folder);
    await rm(output, { force: true });
    const reason = report?.message ?? lastLine(child.stderrTail());
    throw new FreeholdError(
      isFull ? 'DISK_FULL' : 'ENGINE_FAILED',
      `quantizing to ${quantization.label} failed: ${reason}`,
    );
  } finally {
    signal?.removeEventListener('abort', kill);
    kill();
  }
}

/** llama.cpp does not say why it cannot write. Its half of a file is still there: a disk that it filled has no room. */
async function hasNoRoom(folder: string): Promise<boolean> {
  const { bavail, bsize, ffree, files } = await statfs(folder);
  return bavail * bsize < FULL_DISK_BYTES || (files > 0 && ffree === 0);
}

function parseReport(bytes: Buffer): z.infer<typeof reportSchema> | undefined {
  try {
    return reportSchema.parse(JSON.parse(bytes.toString('utf8')));
  } catch {
    return undefined;
  }
}

function lastLine(text: string): string {
  return text.trim().split('\n').at(-1)?.slice(0, 500) || 'the process ended without a word';
}
