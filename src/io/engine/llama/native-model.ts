import { FreeholdError } from '../../../core/base/errors.ts';
import { CONTEXT_TOKENS_DEFAULT_MAX } from '../../../core/format/gguf/memory-estimate.ts';
import { GrammarConstraint } from './grammar-constraint.ts';
import { GrammarVocabulary } from './grammar-vocabulary.ts';
import type { LlamaLibrary, Pointer } from './llama-library.ts';
import { complaints, NativeContext } from './native-context.ts';
import type { LoadMessage, ModelFacts } from './protocol.ts';
import { readVocabulary, type Vocabulary } from './vocabulary.ts';

export interface NativeModel {
  readonly facts: Pick<
    ModelFacts,
    'contextTokens' | 'vocabularyTokens' | 'embeddingLength' | 'parallelRequests'
  >;
  readonly vocabulary: Vocabulary;
  readonly context: NativeContext;
  /** In the order of the load message. */
  readonly adapters: readonly Pointer[];
  /** Made at its first use: most models never answer in a form. @throws GRAMMAR_INVALID */
  constraint(gbnf: string): GrammarConstraint;
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
  const adapters = message.adapters.map((descriptor) => loadAdapter(library, model, descriptor));
  const context = new NativeContext(library, model, {
    contextTokens: Math.min(trained, message.contextTokens ?? CONTEXT_TOKENS_DEFAULT_MAX),
    sequencesMax: message.purpose === 'embed' ? 1 : message.parallelRequests,
    threads: message.threads,
    purpose: message.purpose,
    embeddingLength,
  });
  let grammarVocabulary: GrammarVocabulary | undefined;
  return {
    facts: {
      contextTokens: context.contextTokens,
      vocabularyTokens: vocabulary.tokenCount,
      embeddingLength,
      parallelRequests: context.sequencesMax,
    },
    vocabulary,
    context,
    adapters,
    constraint: (gbnf) => {
      grammarVocabulary ??= new GrammarVocabulary(
        library,
        library.vocabularyOf(model),
        vocabulary.tokenCount,
      );
      return new GrammarConstraint(grammarVocabulary, gbnf);
    },
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

/** The file stays open: what was read from it lies in llama.cpp's own memory, and the process ends with its model. */
function loadAdapter(library: LlamaLibrary, model: Pointer, descriptor: number): Pointer {
  const file = library.openDescriptor(descriptor, 'r');
  const adapter = file === null ? null : library.loadAdapter(model, file);
  if (adapter === null) {
    throw new FreeholdError('ADAPTER_INVALID', `llama.cpp could not load an adapter${complaints(library)}`);
  }
  return adapter;
}
