import { FreeholdError } from '../../../core/base/errors.ts';
import type { LlamaLibrary, Pointer } from './llama-library.ts';
import { complaints, NativeContext } from './native-context.ts';
import type { LoadMessage, ModelFacts } from './protocol.ts';
import { readVocabulary, type Vocabulary } from './vocabulary.ts';

/** Used where neither request nor package asks for a size: enough for a long chat, affordable on a laptop. */
export const CONTEXT_TOKENS_DEFAULT_MAX = 8192;

export interface NativeModel {
  readonly facts: Omit<ModelFacts, 'hasChatTemplate'>;
  readonly vocabulary: Vocabulary;
  readonly context: NativeContext;
  /** Jinja source in the weights. */
  readonly chatTemplate: string | undefined;
}

/**
 * Maps the weights from inherited descriptors (no copy, no path) and makes the context.
 * @throws ENGINE_FAILED with llama.cpp's own words, OUT_OF_MEMORY
 */
export function loadNativeModel(library: LlamaLibrary, message: LoadMessage): NativeModel {
  const model = mapWeights(library, message.weights);
  if (library.isDiffusion(model) || (library.hasEncoder(model) && library.hasDecoder(model))) {
    throw new FreeholdError('ENGINE_FAILED', 'encoder-decoder and diffusion models are not supported');
  }
  const vocabulary = readVocabulary(library, model);
  const embeddingLength = library.embeddingLength(model);
  const trained = Math.max(1, library.trainedContextTokens(model));
  const context = new NativeContext(library, model, {
    contextTokens: Math.min(trained, message.contextTokens ?? CONTEXT_TOKENS_DEFAULT_MAX),
    threads: message.threads,
    purpose: message.purpose,
    embeddingLength,
  });
  return {
    facts: {
      contextTokens: context.contextTokens,
      vocabularyTokens: vocabulary.tokenCount,
      embeddingLength,
    },
    vocabulary,
    context,
    chatTemplate: library.chatTemplate(model, null) ?? undefined,
  };
}

function mapWeights(library: LlamaLibrary, descriptors: readonly number[]): Pointer {
  const params = library.modelDefaultParams();
  const [only] = descriptors;
  let model: Pointer | null;
  if (descriptors.length === 1 && only !== undefined) {
    const file = library.openDescriptor(only, 'r');
    if (file === null) throw new FreeholdError('ENGINE_FAILED', `descriptor ${only} is not open`);
    model = library.loadFromFile(file, params);
  } else {
    const paths = descriptors.map((descriptor) => `/proc/self/fd/${descriptor}`);
    model = library.loadFromSplits(paths, paths.length, params);
  }
  if (model === null) {
    throw new FreeholdError('ENGINE_FAILED', `llama.cpp could not load the weights${complaints(library)}`);
  }
  return model;
}
