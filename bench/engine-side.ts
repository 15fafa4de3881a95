import { randomInt } from 'node:crypto';
import type { GenerateRequest, LoadedModel, Usage } from '../src/core/base/engine-port.ts';
import { silentLog } from '../src/core/base/log.ts';
import { createLlamaEngine } from '../src/io/engine/llama/llama-engine.ts';
import { weightsFile } from '../tests/conformance/engine-fixture.ts';
import type { Sample, Scope } from './benchmark.ts';
import { treeCpuSeconds } from './process-usage.ts';

const CONTEXT_TOKENS = 1024;
const PROMPT = 'The history of computing began with';
/** Below are control tokens, in the vocabularies of both models; none may be in a prompt by chance. */
const FIRST_ORDINARY_TOKEN = 300;
const ORDINARY_TOKENS = 40_000;
/** End tokens that must not cut an answer short: SmolLM2's and Qwen2.5's. */
const END_TOKENS = { smollm2: [0, 2], qwen2: [151_643, 151_645] } as const;

/** The whole engine as the product uses it: sandboxed child, sampling, channel. */
export interface EngineSide {
  readonly isolation: string;
  /** Decodes so many tokens after a short prompt, greedily. Tokens per second. */
  decode(tokens: number): Promise<Sample>;
  /** Reads a prompt of so many random tokens, other ones each time. Tokens per second. */
  readPrompt(tokens: number): Promise<Sample>;
  close(): Promise<void>;
}

export async function openEngineSide(scope: Scope, file: string, threads: number): Promise<EngineSide> {
  const model = await createLlamaEngine({ log: silentLog }).load({
    name: 'bench',
    weights: [weightsFile(file)],
    threads,
    contextTokens: CONTEXT_TOKENS,
    parallelRequests: 1,
  });
  scope.after(() => model.close());
  const ends: readonly number[] = model.info.architecture === 'qwen2' ? END_TOKENS.qwen2 : END_TOKENS.smollm2;
  return {
    isolation: model.info.isolation,
    async decode(tokens) {
      const logitBias = Object.fromEntries(ends.map((id) => [id, -100]));
      const { usage, cpuSeconds } = await generate(model, {
        prompt: { kind: 'text', text: PROMPT },
        sampling: { temperature: 0, logitBias },
        // The first token of an answer comes from the prompt: the model is asked for the others.
        maxTokens: tokens + 1,
      });
      if (usage.completionTokens !== tokens + 1) throw new Error(`${usage.completionTokens} tokens came`);
      return { value: (tokens * 1000) / usage.completionMs, cpuSeconds };
    },
    async readPrompt(tokens) {
      const prompt = Array.from({ length: tokens }, () => FIRST_ORDINARY_TOKEN + randomInt(ORDINARY_TOKENS));
      const { usage, cpuSeconds } = await generate(model, {
        prompt: { kind: 'tokens', tokens: prompt },
        sampling: { temperature: 0 },
        maxTokens: 1,
      });
      return { value: ((usage.promptTokens - usage.cachedTokens) * 1000) / usage.promptMs, cpuSeconds };
    },
    close: () => model.close(),
  };
}

async function generate(
  model: LoadedModel,
  request: GenerateRequest,
): Promise<{ usage: Usage; cpuSeconds: number }> {
  const before = treeCpuSeconds(process.pid);
  for await (const event of model.generate(request)) {
    if (event.kind === 'finished')
      return { usage: event.usage, cpuSeconds: treeCpuSeconds(process.pid) - before };
  }
  throw new Error('no end');
}
