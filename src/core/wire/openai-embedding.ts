import { z } from 'zod';
import type { EmbedRequest, EmbedResult } from '../base/engine-port.ts';
import { FreeholdError } from '../base/errors.ts';
import { EMBEDDING_FIELDS, selectHonoured } from './openai-fields.ts';
import { invalid, parseModelId, parseShape } from './openai-generation.ts';
import { parsePrompts } from './openai-prompts.ts';

/** OpenAI's own bound. */
export const EMBEDDING_INPUTS_MAX = 2048;

export interface EmbeddingRequest {
  readonly model: string;
  readonly embed: EmbedRequest;
  readonly encoding: 'float' | 'base64';
  /** What the client expects; compare with `requireDimensions`. */
  readonly dimensions?: number;
}

const EmbeddingBody = z.strictObject({
  model: z.string(),
  input: z.unknown(),
  encoding_format: z.enum(['float', 'base64']).optional(),
  dimensions: z.int().min(1).optional(),
});

/**
 * Reads the body of `POST /v1/embeddings`.
 * @throws REQUEST_INVALID, FIELD_NOT_SUPPORTED, each with `detail.param`; MODEL_NOT_FOUND
 */
export function parseEmbeddingRequest(body: unknown): EmbeddingRequest {
  const parsed = parseShape(EmbeddingBody, selectHonoured(body, EMBEDDING_FIELDS));
  if (parsed.input === undefined) throw invalid('input', 'is missing');
  const inputs = parsePrompts(parsed.input, 'input', EMBEDDING_INPUTS_MAX);
  if (inputs.includes('')) throw invalid('input', 'holds an empty string');
  return {
    model: parseModelId(parsed.model),
    embed: { inputs },
    encoding: parsed.encoding_format ?? 'float',
    ...(parsed.dimensions === undefined ? {} : { dimensions: parsed.dimensions }),
  };
}

/**
 * A shortened vector means something only for models that were trained for it, so none is shortened.
 * @throws FIELD_NOT_SUPPORTED with both numbers
 */
export function requireDimensions(request: EmbeddingRequest, embeddingLength: number): void {
  if (request.dimensions === undefined || request.dimensions === embeddingLength) return;
  throw new FreeholdError(
    'FIELD_NOT_SUPPORTED',
    `dimensions: ${request.dimensions} asked for, and vectors of ${request.model} have ${embeddingLength}`,
    { hint: `leave it out, or ask for ${embeddingLength}`, detail: { param: 'dimensions' } },
  );
}

export interface EmbeddingResponse {
  readonly object: 'list';
  readonly data: readonly {
    readonly object: 'embedding';
    readonly index: number;
    readonly embedding: readonly number[] | string;
  }[];
  readonly model: string;
  readonly usage: { readonly prompt_tokens: number; readonly total_tokens: number };
}

/** The body of an answer: vectors in the order of the inputs, in the encoding that was asked for. */
export function encodeEmbeddings(request: EmbeddingRequest, result: EmbedResult): EmbeddingResponse {
  return {
    object: 'list',
    data: result.vectors.map((vector, index) => ({
      object: 'embedding',
      index,
      embedding: request.encoding === 'float' ? Array.from(vector) : encodeBase64(vector),
    })),
    model: request.model,
    usage: { prompt_tokens: result.promptTokens, total_tokens: result.promptTokens },
  };
}

/** Little-endian on every machine. */
function encodeBase64(vector: Float32Array): string {
  const bytes = Buffer.alloc(vector.length * 4);
  for (const [index, value] of vector.entries()) bytes.writeFloatLE(value, index * 4);
  return bytes.toString('base64');
}
