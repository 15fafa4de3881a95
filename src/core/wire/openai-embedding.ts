import { z } from 'zod';
import type { EmbedRequest, EmbedResult } from '../base/engine-port.ts';
import { EMBEDDING_FIELDS, selectHonoured } from './openai-fields.ts';
import { parseModelId } from './openai-model-name.ts';
import { parsePrompts } from './openai-prompts.ts';
import { invalid, parseShape } from './openai-shape.ts';

/** OpenAI's own bound. */
export const EMBEDDING_INPUTS_MAX = 2048;

export interface EmbeddingRequest {
  readonly model: string;
  readonly embed: EmbedRequest;
  readonly encoding: 'float' | 'base64';
  /** How many components of each vector the client wants; check it with `requireDimensions`. */
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

/** @throws REQUEST_INVALID with both numbers when the model's vectors are shorter */
export function requireDimensions({ dimensions, model }: EmbeddingRequest, embeddingLength: number): void {
  if (dimensions === undefined || dimensions <= embeddingLength) return;
  throw invalid('dimensions', `${dimensions} asked for, and vectors of ${model} have ${embeddingLength}`);
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
    data: result.vectors.map((whole, index) => {
      const vector = shorten(whole, request.dimensions ?? whole.length);
      return {
        object: 'embedding',
        index,
        embedding: request.encoding === 'float' ? Array.from(vector) : encodeBase64(vector),
      };
    }),
    model: request.model,
    usage: { prompt_tokens: result.promptTokens, total_tokens: result.promptTokens },
  };
}

/**
 * The first components at length 1 again, as OpenAI shortens vectors. Only models that were trained for it
 * (Matryoshka) put what matters first.
 */
function shorten(vector: Float32Array, dimensions: number): Float32Array {
  if (dimensions >= vector.length) return vector;
  const first = vector.slice(0, dimensions);
  const length = Math.sqrt(first.reduce((sum, value) => sum + value * value, 0));
  return length === 0 ? first : first.map((value) => value / length);
}

/** Little-endian on every machine. */
function encodeBase64(vector: Float32Array): string {
  const bytes = Buffer.alloc(vector.length * 4);
  for (const [index, value] of vector.entries()) bytes.writeFloatLE(value, index * 4);
  return bytes.toString('base64');
}
