import type { GgufFile } from './gguf-types.ts';
import { ggufInvalid, optionalInteger } from './gguf-values.ts';

/** Reads a key of the architecture; 0 where it is missing. */
type Read = (key: string) => number;

/** What must hold between hyper-parameters of one architecture. */
interface Relation {
  readonly architectures: readonly string[];
  /** The key to name, without the architecture. */
  readonly key: string;
  readonly holds: (read: Read) => boolean;
  readonly message: string;
}

// Each is an assertion of llama.cpp v0.5.0 (`src/models/`), which ends the process, or a division by zero.
const RELATIONS: readonly Relation[] = [
  {
    architectures: ['hrm_text'],
    key: 'block_count',
    holds: (read) =>
      read('block_count') ===
      read('hrm.layers_per_stack') * read('hrm.h_cycles') * (read('hrm.l_cycles') + 1),
    message: 'is not what the cycles of its stack run',
  },
  {
    architectures: ['wavtokenizer-dec'],
    key: 'posnet.embedding_length',
    holds: (read) => read('posnet.embedding_length') === read('convnext.embedding_length'),
    message: 'is not the length of convnext',
  },
  {
    architectures: ['jamba', 'granitehybrid'],
    key: 'ssm.inner_size',
    holds: (read) => read('ssm.inner_size') === 2 * read('embedding_length'),
    message: 'is not twice the embedding length',
  },
  {
    architectures: ['lfm2', 'lfm2moe'],
    key: 'shortconv.l_cache',
    holds: (read) => read('shortconv.l_cache') > 1,
    message: 'is below 2',
  },
  {
    architectures: ['ernie4_5-moe'],
    key: 'interleave_moe_layer_step',
    holds: (read) => read('interleave_moe_layer_step') > 0,
    message: 'is missing or 0',
  },
  {
    architectures: ['qwen3next', 'qwen35', 'qwen35moe', 'qwen4exp'],
    key: 'ssm.time_step_rank',
    holds: (read) =>
      read('ssm.group_count') > 0 && read('ssm.time_step_rank') % read('ssm.group_count') === 0,
    message: 'is no multiple of the group count',
  },
  {
    architectures: ['deepseek2', 'mistral4', 'hy_v4'],
    key: 'rope.dimension_count',
    holds: (read) =>
      read('rope.dimension_count') <
      (read('attention.key_length_mla') || read('attention.key_length') || Infinity),
    message: 'leaves nothing of a head that is not rotated',
  },
];

/** @throws GGUF_INVALID naming file and key */
export function verifyRelations(file: GgufFile, architecture: string): void {
  const read = (key: string) => optionalInteger(file, `${architecture}.${key}`) ?? 0;
  for (const { architectures, key, holds, message } of RELATIONS) {
    if (!architectures.includes(architecture) || holds(read)) continue;
    throw ggufInvalid(file, `${architecture}.${key}`, message);
  }
}
