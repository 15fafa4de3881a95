import { z } from 'zod';
import { FreeholdError } from '../base/errors.ts';
import { quoted } from '../base/ids.ts';
import { parseJsonDocument } from '../base/json-document.ts';
import type { ArtifactDocument } from './artifact-documents.ts';
import { CONFIG_BYTES_MAX, JSON_DEPTH_MAX, layerPath, MEDIA_TYPE, type OciDescriptor } from './oci.ts';

/** Who made an artifact that holds a model, by its form. */
export type ForeignFamily = 'ollama' | 'docker' | 'kitops' | 'modelpack';

export type ForeignCompression = 'none' | 'gzip' | 'zstd';

export interface ForeignArchive {
  readonly layer: OciDescriptor;
  readonly compression: ForeignCompression;
}

/** Where in the artifact the weights are. */
export type ForeignWeights =
  /** Each layer is one GGUF file; all of them in the order of their shards. */
  | { readonly kind: 'files'; readonly layers: readonly OciDescriptor[] }
  /** Tar archives, in one or several of which GGUF files lie. */
  | {
      readonly kind: 'archives';
      readonly archives: readonly ForeignArchive[];
      /** The file or folder that is the model, as its maker says; hints only. */
      readonly path: string | undefined;
    };

/** What is taken of a foreign artifact. Nobody signed it: all of it is what a stranger says. */
export interface ForeignArtifact {
  readonly family: ForeignFamily;
  readonly weights: ForeignWeights;
  /** Jinja. */
  readonly chatTemplate: OciDescriptor | undefined;
  /** Texts of licences. */
  readonly licenseTexts: readonly OciDescriptor[];
  /** As the artifact names it. */
  readonly license: string | undefined;
  /** Ollama's defaults: see `parseOllamaParameters`. */
  readonly parameters: OciDescriptor | undefined;
  /** What is left out, and why; for people. */
  readonly remarks: readonly string[];
}

// Media types: Ollama's manifests as its registry serves them; "OCI artifacts for AI model packaging" of Docker; KitOps'
// ModelKit specification; CNCF ModelPack with the layer type that older Docker versions added.
const OLLAMA = 'application/vnd.ollama.image.';
const DOCKER_CONFIG = /^application\/vnd\.docker\.ai\.model\.config\.v0\.\d+\+json$/;
const DOCKER = 'application/vnd.docker.ai.';
const KITOPS_CONFIG = 'application/vnd.kitops.modelkit.config.v1+json';
const KITOPS_LAYER = /^application\/vnd\.kitops\.modelkit\.(\w+)\.v1\.(tar|raw)(?:\+([\w-]+))?$/;
const MODELPACK_LAYER = /^application\/vnd\.cncf\.model\.([\w.]+?)\.v1\.(tar|raw|gguf)(?:\+(\w+))?$/;

/** Which tool's artifact a manifest is, by its config and layers; undefined when it is of none that is known. */
export function foreignFamily({ config, layers }: ArtifactDocument): ForeignFamily | undefined {
  const type = config?.mediaType ?? '';
  if (layers.some(({ mediaType }) => mediaType.startsWith(OLLAMA))) return 'ollama';
  if (DOCKER_CONFIG.test(type)) return 'docker';
  if (type === KITOPS_CONFIG) return 'kitops';
  return type === MEDIA_TYPE.modelConfig ? 'modelpack' : undefined;
}

/**
 * Finds the model in an artifact of another tool.
 * @param config the bytes of the manifest's config, hashed against it
 * @param label the artifact, for messages
 * @throws NOT_SUPPORTED saying what it is, when it holds no GGUF model or more than that; MANIFEST_INVALID
 */
export function describeForeignArtifact(
  document: ArtifactDocument,
  config: Uint8Array | undefined,
  label: string,
): ForeignArtifact {
  const family = foreignFamily(document);
  switch (family) {
    case 'ollama':
      return describeOllama(document, config, label);
    case 'docker':
      return describeDocker(document, config, label);
    case 'kitops':
      return describeKitOps(document, config, label);
    case 'modelpack':
      return describeModelPack(document, config, label);
    case undefined:
      throw unusable(
        label,
        `neither a package of Freehold nor a model of a tool that is known (its config is ${quoted(document.config?.mediaType ?? 'missing')})`,
      );
    default:
      return family satisfies never;
  }
}

const ollamaConfigSchema = z.looseObject({
  model_format: z.string().nullish(),
  remote_host: z.string().nullish(),
  remote_model: z.string().nullish(),
});

function describeOllama(
  { layers }: ArtifactDocument,
  config: Uint8Array | undefined,
  label: string,
): ForeignArtifact {
  const stated = parseConfig(config, ollamaConfigSchema, label);
  if (stated?.remote_host || stated?.remote_model) {
    throw unusable(label, 'a name for a model on a server of Ollama: its weights cannot be had');
  }
  const format = stated?.model_format || 'gguf';
  if (format.toLowerCase() !== 'gguf')
    throw unusable(label, `a model in the form ${quoted(format)}, not GGUF`);
  // `application/vnd.ollama.image.template; name=…`
  const ofType = (type: string) =>
    layers.filter(({ mediaType }) => mediaType.split(';')[0]?.trim() === `${OLLAMA}${type}`);
  if (ofType('adapter').length > 0) {
    // Without its adapter it would be another model under the same name.
    throw unusable(
      label,
      'a base model with a LoRA adapter, which is not imported together',
      'import the base model, and give the adapter with --adapter NAME=FILE',
    );
  }
  const [model, ...others] = ofType('model');
  if (model === undefined || others.length > 0) {
    throw unusable(
      label,
      `no artifact with one GGUF file: it has ${others.length === 0 ? 'none' : others.length + 1}`,
    );
  }
  return {
    family: 'ollama',
    weights: { kind: 'files', layers: [model] },
    chatTemplate: undefined,
    licenseTexts: ofType('license'),
    license: undefined,
    parameters: ofType('params')[0],
    remarks: [
      ...(ofType('template').length === 0
        ? []
        : [
            'the chat template of the weights is used: Ollama’s own is a Go template, which Freehold does not run',
          ]),
      ...leftOut(
        ofType('system'),
        'its system message is not part of the model: send one with your requests',
      ),
      ...leftOut(ofType('messages'), 'its example messages are left out'),
      ...leftOut(ofType('projector'), 'its projector for images is left out: Freehold reads text only'),
    ],
  };
}

const dockerConfigSchema = z.looseObject({
  config: z.looseObject({ format: z.string().nullish() }).nullish(),
});

function describeDocker(
  { layers }: ArtifactDocument,
  config: Uint8Array | undefined,
  label: string,
): ForeignArtifact {
  const format = parseConfig(config, dockerConfigSchema, label)?.config?.format || 'gguf';
  if (format.toLowerCase() !== 'gguf')
    throw unusable(label, `a model in the form ${quoted(format)}, not GGUF`);
  const ofType = (type: string) => layers.filter(({ mediaType }) => mediaType === `${DOCKER}${type}`);
  const weights = inShardOrder(ofType('gguf.v3'));
  if (weights.length === 0) throw unusable(label, 'a model of Docker without a GGUF file');
  return {
    family: 'docker',
    weights: { kind: 'files', layers: weights },
    chatTemplate: ofType('chat.template.jinja')[0],
    licenseTexts: ofType('license'),
    license: undefined,
    parameters: undefined,
    remarks: leftOut(ofType('mmproj'), 'its projector for images is left out: Freehold reads text only'),
  };
}

const kitfileSchema = z.looseObject({
  package: z.looseObject({ license: z.string().nullish() }).nullish(),
  model: z.looseObject({ path: z.string().nullish(), license: z.string().nullish() }).nullish(),
});

function describeKitOps(
  { layers }: ArtifactDocument,
  config: Uint8Array | undefined,
  label: string,
): ForeignArtifact {
  const kitfile = parseConfig(config, kitfileSchema, label);
  const typed = layers.flatMap((layer) => typedLayer(layer, KITOPS_LAYER));
  const parts = typed.filter(({ part }) => part === 'model' || part === 'modelpart');
  if (parts.length === 0) throw unusable(label, 'a ModelKit without a model');
  return {
    family: 'kitops',
    weights: weightsOfParts(parts, kitfile?.model?.path ?? undefined, label),
    chatTemplate: undefined,
    licenseTexts: [],
    license: kitfile?.model?.license ?? kitfile?.package?.license ?? undefined,
    parameters: undefined,
    remarks: leftOut(
      typed.filter(({ part }) => part === 'dataset' || part === 'code' || part === 'docs'),
      'its data sets, code and documents are left out',
    ),
  };
}

const modelPackConfigSchema = z.looseObject({
  descriptor: z.looseObject({ licenses: z.array(z.string()).nullish() }).nullish(),
  config: z.looseObject({ format: z.string().nullish() }).nullish(),
});

function describeModelPack(
  { layers }: ArtifactDocument,
  config: Uint8Array | undefined,
  label: string,
): ForeignArtifact {
  const stated = parseConfig(config, modelPackConfigSchema, label);
  const typed = layers.flatMap((layer) => typedLayer(layer, MODELPACK_LAYER));
  const weights = typed.filter(({ part }) => part === 'weight');
  if (weights.length === 0) throw unusable(label, 'a ModelPack without weights');
  const licenseTexts = typed
    .filter(
      ({ part, form, layer }) =>
        part === 'doc' && form === 'raw' && /(?:^|\/)licen[cs]e/i.test(layerPath(layer) ?? ''),
    )
    .map(({ layer }) => layer);
  return {
    family: 'modelpack',
    weights: weightsOfParts(weights, undefined, label),
    chatTemplate: typed.find(
      ({ part, form, layer }) =>
        part === 'weight.config' && form === 'raw' && /\.jinja$/i.test(layerPath(layer) ?? ''),
    )?.layer,
    licenseTexts,
    license: stated?.descriptor?.licenses?.join(' AND ') || undefined,
    parameters: undefined,
    remarks: [],
  };
}

interface TypedLayer {
  readonly layer: OciDescriptor;
  /** `model`, `weight`, `weight.config`. */
  readonly part: string;
  readonly form: string;
  readonly compression: string;
}

function typedLayer(layer: OciDescriptor, pattern: RegExp): TypedLayer[] {
  const [, part, form, compression = 'none'] = pattern.exec(layer.mediaType) ?? [];
  return part === undefined || form === undefined ? [] : [{ layer, part, form, compression }];
}

function weightsOfParts(
  parts: readonly TypedLayer[],
  path: string | undefined,
  label: string,
): ForeignWeights {
  const files = parts.filter(
    ({ form, layer }) =>
      form === 'gguf' || (form === 'raw' && /\.gguf$/i.test(layerPath(layer) ?? path ?? '')),
  );
  if (files.length > 0) return { kind: 'files', layers: inShardOrder(files.map(({ layer }) => layer)) };
  const archives = parts.filter(({ form }) => form === 'tar');
  if (archives.length === 0) {
    const names = parts.map(({ layer }) => layerPath(layer) ?? layer.mediaType);
    throw unusable(label, `a model without GGUF files: it has ${names.slice(0, 5).map(quoted).join(', ')}`);
  }
  return {
    kind: 'archives',
    archives: archives.map(({ layer, compression }) => ({
      layer,
      compression: knownCompression(compression, label),
    })),
    path,
  };
}

function knownCompression(text: string, label: string): ForeignCompression {
  if (text === 'gzip-fastest') return 'gzip';
  if (text === 'none' || text === 'gzip' || text === 'zstd') return text;
  throw unusable(label, `compressed by ${quoted(text)}, which Freehold cannot read`);
}

/** Shards are told apart by their names; without names the order of the layers counts. */
function inShardOrder(layers: readonly OciDescriptor[]): OciDescriptor[] {
  const named = layers.map((layer) => ({ layer, path: layerPath(layer) ?? '' }));
  return named
    .toSorted((left, right) => (left.path < right.path ? -1 : left.path > right.path ? 1 : 0))
    .map(({ layer }) => layer);
}

const leftOut = (layers: readonly unknown[], remark: string) => (layers.length === 0 ? [] : [remark]);

function parseConfig<Schema extends z.ZodType>(
  bytes: Uint8Array | undefined,
  schema: Schema,
  label: string,
): z.output<Schema> | undefined {
  if (bytes === undefined) return undefined;
  return parseForeignJson(bytes, schema, `${label}: config`);
}

/** JSON of another tool, hashed but not signed. @throws MANIFEST_INVALID */
export function parseForeignJson<Schema extends z.ZodType>(
  bytes: Uint8Array,
  schema: Schema,
  label: string,
): z.output<Schema> {
  return parseJsonDocument(bytes, schema, {
    label,
    code: 'MANIFEST_INVALID',
    bytesMax: CONFIG_BYTES_MAX,
    depthMax: JSON_DEPTH_MAX,
  });
}

const unusable = (label: string, what: string, hint?: string) =>
  new FreeholdError('NOT_SUPPORTED', `${label} is ${what}`, {
    hint:
      hint ??
      'Freehold imports GGUF models of Ollama, Docker, KitOps and ModelPack; others must be converted to GGUF first',
  });
