import { FreeholdError } from '../../base/errors.ts';
import { quoted } from '../../base/ids.ts';
import { encodeShardName, parseShardName } from './gguf-shards.ts';

/** One model among the files of a repository or a folder. */
export interface GgufCandidate {
  /** The path of its first file. */
  readonly path: string;
  /** All its files, shards in order. */
  readonly files: readonly string[];
  /** As its name says, in upper case: `Q4_K_M`, `UD-Q2_K_XL`; undefined when the name says nothing. */
  readonly quantization: string | undefined;
}

/** Which of them is meant. */
export type GgufWanted =
  | { readonly kind: 'file'; readonly path: string }
  | { readonly kind: 'quantization'; readonly quantization: string }
  | { readonly kind: 'only' };

/** Names of a message; a repository may have dozens of quantizations. */
const NAMES_SHOWN_MAX = 40;

/** `Q4_K_M`, `IQ2_XXS`, `BF16`, `MXFP4_MOE`, `TQ1_0` as a part of its own; some publishers put `UD-` before. */
const QUANTIZATION =
  /(?:^|[-._/ ])((?:UD-)?(?:I?Q\d+(?:_[A-Z0-9]+)*|TQ\d_\d|B?F16|F32|FP16|FP32|MXFP4(?:_MOE)?|NVFP4))(?=$|[-./ ])/gi;
/** Files of other tools in the same place: projectors of images, importance matrices. */
const NOT_A_MODEL = /(?:^|[-._])(?:mmproj|imatrix)(?=$|[-._])/i;

/** The quantization that a path or name states, in upper case; the last one where several parts look like one. */
export function quantizationIn(path: string): string | undefined {
  return [...path.matchAll(QUANTIZATION)].at(-1)?.[1]?.toUpperCase();
}

/**
 * The models among these paths, in the order of their names. Split ones count once, and only with all their shards.
 * @param paths with `/` between folders
 */
export function ggufCandidates(paths: readonly string[]): GgufCandidate[] {
  const known = new Set(paths);
  return paths
    .filter((path) => /\.gguf$/i.test(path) && !NOT_A_MODEL.test(baseName(path)))
    .flatMap((path): GgufCandidate[] => {
      const shard = parseShardName(baseName(path));
      // Before names are made: thousands of files that each claim 65,535 shards would fill the memory.
      if (shard !== undefined && (shard.number > 1 || shard.count > paths.length)) return [];
      const files = filesOfModel(path);
      const isWhole = files[0] === path && files.every((file) => known.has(file));
      return isWhole ? [{ path, files, quantization: quantizationIn(path.replace(/\.gguf$/i, '')) }] : [];
    })
    .toSorted((left, right) => (left.path < right.path ? -1 : 1));
}

/** The file itself, or all shards of the model that it is one of. */
function filesOfModel(path: string): string[] {
  const shard = parseShardName(baseName(path));
  if (shard === undefined) return [path];
  const folder = path.slice(0, path.length - baseName(path).length);
  return Array.from(
    { length: shard.count },
    (_, index) => `${folder}${encodeShardName({ ...shard, number: index + 1 })}`,
  );
}

/**
 * The one model that is meant. A quantization is compared in any case with the whole part of the name that states it, so
 * that `Q4_K` never takes `Q4_K_M`.
 * @param place for messages: `hf://acme/triage`
 * @throws NOT_FOUND, listing what there is; REFERENCE_INVALID when several are meant
 */
export function chooseGguf(paths: readonly string[], wanted: GgufWanted, place: string): GgufCandidate {
  const candidates = ggufCandidates(paths);
  if (wanted.kind === 'file') return chooseFile(paths, candidates, wanted.path, place);
  if (candidates.length === 0) {
    throw new FreeholdError('NOT_FOUND', `${place} has no GGUF model`, {
      hint: 'look for a repository of the model in GGUF, or convert the model (convert_hf_to_gguf.py of llama.cpp)',
    });
  }
  const meant = wanted.kind === 'only' ? candidates : withQuantization(candidates, wanted.quantization);
  const [first, ...others] = meant;
  if (first === undefined) {
    const asked = wanted.kind === 'quantization' ? wanted.quantization : '';
    throw new FreeholdError('NOT_FOUND', `${place} has no ${quoted(asked)}`, { hint: listing(candidates) });
  }
  if (others.length > 0) {
    throw new FreeholdError('REFERENCE_INVALID', `${place} has ${meant.length} models that may be meant`, {
      hint: listing(meant),
    });
  }
  return first;
}

function chooseFile(
  paths: readonly string[],
  candidates: readonly GgufCandidate[],
  path: string,
  place: string,
): GgufCandidate {
  const files = filesOfModel(path);
  const missing = files.find((file) => !paths.includes(file));
  if (missing !== undefined) {
    throw new FreeholdError('NOT_FOUND', `${place} has no file ${quoted(missing)}`, {
      hint: candidates.length === 0 ? 'check the name' : listing(candidates),
    });
  }
  return { path: files[0] ?? path, files, quantization: quantizationIn(path) };
}

function withQuantization(candidates: readonly GgufCandidate[], wanted: string): readonly GgufCandidate[] {
  const asked = wanted.toUpperCase();
  const exact = candidates.filter(({ quantization }) => quantization === asked);
  // `UD-Q4_K_M` is a Q4_K_M as well, where there is no plain one.
  return exact.length > 0
    ? exact
    : candidates.filter(({ quantization }) => quantization?.replace(/^UD-/, '') === asked);
}

function listing(candidates: readonly GgufCandidate[]): string {
  const names = candidates.map(({ quantization, path }) => quantization ?? path);
  const isPlain = new Set(names).size === names.length;
  const shown = isPlain ? names : candidates.map(({ path }) => path);
  const more = shown.length > NAMES_SHOWN_MAX ? `, and ${shown.length - NAMES_SHOWN_MAX} more` : '';
  return `name one of: ${shown.slice(0, NAMES_SHOWN_MAX).join(', ')}${more}`;
}

function baseName(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1);
}
