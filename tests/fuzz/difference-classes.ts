import type { Difference } from './campaign.ts';

/** Files that two readers judge differently, all for one reason. */
export interface DifferenceClass {
  /** For the page, and unique. */
  readonly name: string;
  readonly against: Difference['against'];
  readonly kind: Difference['kind'];
  /** Our code and message without names and numbers, where we refuse. */
  readonly ours?: RegExp;
  /** Its words in the same form, where it refuses. */
  readonly theirs?: RegExp;
  readonly why: string;
}

/** Where the Python reader takes what ours refuses. */
const ONLY_GGUF: readonly (readonly [name: string, ours: RegExp, why: string])[] = [
  [
    'arrays of arrays',
    /is an array of arrays/,
    'It flattens them. ggml refuses them, and without a bound a short file nests deeper than a stack.',
  ],
  [
    'ends too early',
    /needs # bytes, # are left|does not fit into|^GGUF_INVALID the (length|offset) of .* is #, in a file|has # bytes, # are left/,
    'A slice behind the end of its memory map is silently short, and what is missing may never be looked at.',
  ],
  [
    'more than there is',
    /the (tensor|metadata) count is #/,
    'It meets no count that is larger than its file, only the end.',
  ],
  [
    'odd alignment',
    /general\.alignment is # instead of a power/,
    'It takes 1, 2, 4 and powers far above any page; the specification asks for a multiple of 8.',
  ],
  ['empty names', /is empty/, 'A name without characters; ggml asserted on an empty key once.'],
  [
    'names that are no printable ASCII',
    /is not printable ASCII/,
    'It takes any UTF-8. To C a name ends at a NUL, and on a terminal it may do anything.',
  ],
  [
    'long names',
    /GGUF_LIMIT .* has # bytes, above #/,
    'It has no limits. ggml refuses tensor names of 64 bytes.',
  ],
  ['dimensions', /has # dimensions instead of/, 'None, or more than the four that ggml has.'],
  ['empty tensors', /has a dimension of #/, 'A dimension of 0 has divided by zero in native code.'],
  ['unaligned tensors', /lies at #, not a multiple of #/, 'It reads them wherever they lie; ggml does not.'],
  [
    'overlapping tensors',
    /overlap/,
    'One that was inspected could be changed through the other; ggml refuses them.',
  ],
  [
    'places beyond 2⁵³',
    /the offset of tensor … is #|has too many elements/,
    'Numbers wrap in its arithmetic; no file is that long.',
  ],
  ['text that is none', /is not UTF-8|has a NUL in its text/, 'It hands out bytes undecoded.'],
  ['odd booleans', /has the boolean #/, 'Neither 0 nor 1: undefined behaviour in C++.'],
  ['other limits', /^GGUF_LIMIT /, 'It has no limits.'],
];

/** Where llama.cpp runs what our gate refuses. */
const ONLY_LLAMA: readonly (readonly [name: string, ours: RegExp, why: string])[] = [
  [
    'not called a model',
    /general\.type is/,
    'It does not look at `general.type` of a model. An adapter or a projector loaded as a model is a mistake, or a disguise.',
  ],
  [
    'names that are no printable ASCII',
    /is not printable ASCII/,
    'A key that it does not know may be named anyhow.',
  ],
  ['odd booleans', /has the boolean #/, 'Undefined behaviour in C++ that happens to work.'],
  [
    'text that is none',
    /is not UTF-8|has a NUL in its text/,
    'It sees a text up to its NUL and we would see all: what was inspected is not what is used.',
  ],
  [
    'odd alignment',
    /general\.alignment is/,
    'The specification asks for a multiple of 8; ours ends at 1 MiB.',
  ],
  [
    'tensors at odd places',
    /not a multiple of the # that native code needs/,
    'It asserts the first address that it maps, and reads the others unaligned.',
  ],
  [
    'shard keys',
    /split\.(count|no|tensors\.count)/,
    'A single file may say of which split it is; we want what it says to be true.',
  ],
  [
    'token ids beyond the vocabulary',
    /tokenizer\.ggml\.\w+_id is|tokenizer\.ggml\.suppress_tokens/,
    'It ignores some with a warning, and has read others out of bounds.',
  ],
  [
    'token ids by default',
    /_token_id is missing/,
    'The id that it would take is none of the vocabulary, or shall be added to a text and is not there: harmless until it is used.',
  ],
  [
    'bytes that cannot be spelled',
    /has no token for the byte/,
    'Runs until a text holds that byte, which then ends the process or fills the memory.',
  ],
  ['character maps', /precompiled_charsmap/, 'Read by one kind of tokenizer only; there, past its end.'],
  [
    'arrays of the vocabulary',
    /tokenizer\.ggml\.(scores|token_type|merges|tokens) /,
    'Longer than the vocabulary, of unknown token types, NaN, or of a type that this tokenizer does not read.',
  ],
  ['vocabulary size', /\.vocab_size is/, 'It takes the list and forgets the number, which others believe.'],
  ['chat template', /tokenizer\.chat_template is/, 'It reads it when asked for it, and aborts then.'],
  [
    'types of tensors',
    /is of type/,
    'Of a tensor that this graph does not use, or only with another setting.',
  ],
  [
    'lengths of heads',
    /value_length is #, and keys have|rope\.dimension_count is #|no multiple of the # that all heads have/,
    'Where no block has the kind of attention that asserts it.',
  ],
  [
    'hyper-parameters',
    /^GGUF_INVALID (?!tokenizer|general|split|tensor)[\w.-]+\.[\w.]+ (is|has|of)\b/,
    'Of another type, out of bounds or NaN: this architecture does not read that key, another one would fall over it.',
  ],
  ['sampling', /general\.sampling\./, 'NaN or infinite.'],
  ['limits', /^GGUF_LIMIT /, 'It has other limits, or none.'],
];

/** What we leave to llama.cpp, which refuses it by an error: the process goes on. */
const LEFT_TO_LLAMA: readonly (readonly [name: string, theirs: RegExp, why: string])[] = [
  [
    'tensors are missing',
    /tensor … not found|missing tensor|wrong number of tensors/,
    'Which tensors an architecture needs is knowledge of the engine.',
  ],
  [
    'tensors have another shape',
    /has wrong shape/,
    'Shapes follow from hyper-parameters in a hundred ways; it compares each before use.',
  ],
  [
    'keys are missing',
    /key not found in model/,
    'Which keys an architecture needs is knowledge of the engine.',
  ],
  [
    'keys have another type',
    /has wrong type|wrong array (length|element)|array of wrong/,
    'It checks the type of each key that it reads.',
  ],
  [
    'unknown architecture',
    /unknown model architecture|unsupported model architecture/,
    'A newer engine may know it; the gate need not.',
  ],
  [
    'unknown tokenizer',
    /unknown (pre-)?tokenizer|tokenizer (merges|vocab)|loading model vocabulary/,
    'It knows which it can run.',
  ],
  [
    'hyper-parameters that do not fit',
    /error loading model|hyperparameters|unsupported|invalid/,
    'Its own checks of one architecture.',
  ],
  [
    'context',
    /^context:/,
    'It will not make a context: what that needs does not fit into the memory that a child may have, or the model is of a kind that has none.',
  ],
  ['decoding', /^decode:/, 'It says so by a return code.'],
];

/** Adapters: in both directions we are stricter, or as strict. */
const ADAPTERS: readonly (readonly [name: string, ours: RegExp, why: string])[] = [
  ['adapter: alpha', /adapter\.lora\.alpha is/, 'NaN, infinite or absurd: every answer would be noise.'],
  [
    'adapter: activated',
    /activated adapters are not supported/,
    'It would leave to its caller to apply it behind a sequence only.',
  ],
  [
    'adapter: shared table',
    /uses for its output too/,
    'Aborts with the first token where the graph takes its output from the table; some graphs do not.',
  ],
  ['adapter: nothing in it', /holds no pair/, 'It loads, and does nothing.'],
  ['adapter: no matrix', /that is no matrix/, 'It loads a pair for a norm or a bias, and never looks at it.'],
  ['adapter: two suffixes', /has two suffixes/, 'It takes both out of the name.'],
  [
    'adapter: shapes',
    /tensor \S+ is \[#\] instead of|has the rank #/,
    'Dimensions that it does not compare, of a tensor that this graph does not use as a matrix.',
  ],
  [
    'adapter: types',
    /ADAPTER_INVALID tensor \S+ is of type/,
    'Of a tensor that this graph does not use as a matrix.',
  ],
  ['adapter: one file', /an adapter is one file/, 'It does not look.'],
];

/** All of them, in the order in which they are tried. */
export const DIFFERENCE_CLASSES: readonly DifferenceClass[] = [
  ...ONLY_GGUF.map(([name, ours, why]) => ({
    name,
    against: 'gguf' as const,
    kind: 'only they accept' as const,
    ours,
    why,
  })),
  {
    name: 'newer tensor types',
    against: 'gguf',
    kind: 'only we accept',
    theirs: /is not a valid GGMLQuantizationType/,
    why: 'It lists the types of its release; the pinned llama.cpp has more.',
  },
  ...ADAPTERS.map(([name, ours, why]) => ({
    name,
    against: 'llama.cpp' as const,
    kind: 'only they accept' as const,
    ours,
    why,
  })),
  ...ONLY_LLAMA.map(([name, ours, why]) => ({
    name,
    against: 'llama.cpp' as const,
    kind: 'only they accept' as const,
    ours,
    why,
  })),
  ...LEFT_TO_LLAMA.map(([name, theirs, why]) => ({
    name,
    against: 'llama.cpp' as const,
    kind: 'only we accept' as const,
    theirs,
    why,
  })),
];

/** The class of a difference; undefined for one that nobody has explained. Crashes never have one. */
export function classOf(difference: Difference): DifferenceClass | undefined {
  return DIFFERENCE_CLASSES.find(
    ({ against, kind, ours, theirs }) =>
      against === difference.against &&
      kind === difference.kind &&
      (ours?.test(difference.ours) ?? true) &&
      (theirs?.test(difference.theirs) ?? true),
  );
}
