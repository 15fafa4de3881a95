import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Digest } from '../base/digest.ts';
import { FreeholdError } from '../base/errors.ts';
import { parseArtifactDocument } from './artifact-documents.ts';
import { describeForeignArtifact, foreignFamily } from './foreign-artifact.ts';
import { encodeJson, MEDIA_TYPE } from './oci.ts';
import { parseOllamaParameters } from './ollama-parameters.ts';

// The manifests here are written from the documentation of each tool; none was fetched from a registry.

const layer = (mediaType: string, name = mediaType, path?: string) => ({
  mediaType,
  digest: Digest.of(name),
  size: name.length,
  ...(path === undefined ? {} : { annotations: { 'org.cncf.model.filepath': path } }),
});

function artifact(configType: string, layers: object[], config: unknown = {}) {
  const manifest = {
    schemaVersion: 2,
    mediaType: MEDIA_TYPE.manifest,
    config: layer(configType),
    layers,
  };
  const document = parseArtifactDocument(encodeJson(manifest), 'test');
  return {
    document,
    describe: () => describeForeignArtifact(document, encodeJson(config), 'oci://r.example/m'),
  };
}

const OLLAMA_CONFIG = 'application/vnd.docker.container.image.v1+json';
const OLLAMA_LAYERS = ['model', 'template', 'license', 'system', 'params'].map((type) =>
  layer(`application/vnd.ollama.image.${type}`),
);

test('Ollama: weights, licence and defaults are taken; its template and system message are named as left out', () => {
  const { document, describe } = artifact(OLLAMA_CONFIG, OLLAMA_LAYERS, {
    model_format: 'gguf',
    model_family: 'llama',
    file_type: 'Q4_0',
    rootfs: { type: 'layers', diff_ids: [] },
  });
  assert.equal(foreignFamily(document), 'ollama');
  const found = describe();
  assert.deepEqual(found.weights, { kind: 'files', layers: [OLLAMA_LAYERS[0]] });
  assert.deepEqual(found.licenseTexts, [OLLAMA_LAYERS[2]]);
  assert.deepEqual(found.parameters, OLLAMA_LAYERS[4]);
  assert.equal(found.chatTemplate, undefined);
  assert.match(found.remarks.join('\n'), /Go template[\s\S]*system message/);
});

test('Ollama: what is no plain GGUF model is refused by what it is', () => {
  const refusals: [RegExp, object[], object][] = [
    [/LoRA adapter/, [...OLLAMA_LAYERS, layer('application/vnd.ollama.image.adapter')], {}],
    [
      /on a server of Ollama/,
      OLLAMA_LAYERS.slice(1),
      { remote_host: 'https://ollama.example', remote_model: 'm' },
    ],
    [/"safetensors", not GGUF/, OLLAMA_LAYERS, { model_format: 'safetensors' }],
    [/it has none/, OLLAMA_LAYERS.slice(1), {}],
    [/it has 2/, [...OLLAMA_LAYERS, layer('application/vnd.ollama.image.model', 'b')], {}],
  ];
  for (const [message, layers, config] of refusals) {
    assert.throws(artifact(OLLAMA_CONFIG, layers, config).describe, { code: 'NOT_SUPPORTED', message });
  }
});

test('Ollama: defaults in Freehold’s names; unknown ones and nonsense are named', () => {
  const read = (value: unknown) => parseOllamaParameters(encodeJson(value), 'm');
  assert.deepEqual(read({ temperature: 0.2, top_k: 40, stop: ['a', 'a', 'b'], repeat_penalty: 1.1 }), {
    parameters: { temperature: 0.2, topK: 40, stop: ['a', 'b'], repeatPenalty: 1.1 },
    remarks: [],
  });
  const odd = read({ num_ctx: 4096, temperature: 'hot', stop: [7], top_p: 5, constructor: 1 });
  assert.equal(odd.parameters, undefined);
  assert.match(odd.remarks[0] ?? '', /"num_ctx", "temperature", "stop", "top_p", "constructor"/);
  assert.throws(() => parseOllamaParameters(Buffer.from('[1]'), 'm'), { code: 'MANIFEST_INVALID' });
});

const DOCKER_CONFIG = 'application/vnd.docker.ai.model.config.v0.1+json';

test('Docker: shards in the order of their names, a Jinja template, licences', () => {
  const second = layer('application/vnd.docker.ai.gguf.v3', 'b', 'm-00002-of-00002.gguf');
  const first = layer('application/vnd.docker.ai.gguf.v3', 'a', 'm-00001-of-00002.gguf');
  const template = layer('application/vnd.docker.ai.chat.template.jinja');
  const license = layer('application/vnd.docker.ai.license');
  const projector = layer('application/vnd.docker.ai.mmproj');
  const { document, describe } = artifact(DOCKER_CONFIG, [second, license, first, template, projector], {
    config: { format: 'gguf', quantization: 'Q4_K_M', architecture: 'llama' },
    descriptor: { created: '2025-01-01T00:00:00Z' },
    rootfs: { type: 'rootfs', diff_ids: [] },
  });
  assert.equal(foreignFamily(document), 'docker');
  const found = describe();
  assert.deepEqual(found.weights, { kind: 'files', layers: [first, second] });
  assert.deepEqual(found.chatTemplate, template);
  assert.deepEqual(found.licenseTexts, [license]);
  assert.match(found.remarks.join(), /projector/);
  const safetensors = artifact(DOCKER_CONFIG, [layer('application/vnd.docker.ai.safetensors')], {
    config: { format: 'safetensors' },
  });
  assert.throws(safetensors.describe, { code: 'NOT_SUPPORTED', message: /"safetensors"/ });
});

const KITOPS_CONFIG = 'application/vnd.kitops.modelkit.config.v1+json';

test('KitOps: the archives of the model and its parts, the path and the licence of the Kitfile', () => {
  const model = layer('application/vnd.kitops.modelkit.model.v1.tar+gzip');
  const part = layer('application/vnd.kitops.modelkit.modelpart.v1.tar');
  const code = layer('application/vnd.kitops.modelkit.code.v1.tar+gzip');
  const { document, describe } = artifact(KITOPS_CONFIG, [model, code, part], {
    manifestVersion: '1.0.0',
    package: { name: 'triage', license: 'MIT', authors: ['Acme'] },
    model: { name: 'triage', path: './models/triage.gguf', framework: 'gguf', license: 'Apache-2.0' },
  });
  assert.equal(foreignFamily(document), 'kitops');
  const found = describe();
  assert.deepEqual(found.weights, {
    kind: 'archives',
    archives: [
      { layer: model, compression: 'gzip' },
      { layer: part, compression: 'none' },
    ],
    path: './models/triage.gguf',
  });
  assert.equal(found.license, 'Apache-2.0');
  assert.match(found.remarks.join(), /code/);
  assert.throws(artifact(KITOPS_CONFIG, [code]).describe, {
    code: 'NOT_SUPPORTED',
    message: /without a model/,
  });
  const brotli = layer('application/vnd.kitops.modelkit.model.v1.tar+br');
  assert.throws(artifact(KITOPS_CONFIG, [brotli]).describe, { code: 'NOT_SUPPORTED', message: /"br"/ });
});

test('ModelPack of other tools: raw GGUF, tar, or neither', () => {
  const raw = layer('application/vnd.cncf.model.weight.v1.raw', 'w', 'triage.gguf');
  const template = layer('application/vnd.cncf.model.weight.config.v1.raw', 't', 'chat_template.jinja');
  const license = layer('application/vnd.cncf.model.doc.v1.raw', 'l', 'LICENSE');
  const readme = layer('application/vnd.cncf.model.doc.v1.raw', 'r', 'README.md');
  const { document, describe } = artifact(MEDIA_TYPE.modelConfig, [readme, license, template, raw], {
    descriptor: { name: 'triage', licenses: ['Apache-2.0'] },
    config: { format: 'gguf' },
    modelfs: { type: 'layers', diffIds: [] },
  });
  assert.equal(foreignFamily(document), 'modelpack');
  const found = describe();
  assert.deepEqual(found.weights, { kind: 'files', layers: [raw] });
  assert.deepEqual(found.chatTemplate, template);
  assert.deepEqual(found.licenseTexts, [license]);
  assert.equal(found.license, 'Apache-2.0');
  const typed = layer('application/vnd.cncf.model.weight.v1.gguf');
  assert.equal(artifact(MEDIA_TYPE.modelConfig, [typed]).describe().weights.kind, 'files');
  const tar = layer('application/vnd.cncf.model.weight.v1.tar+zstd');
  assert.equal(artifact(MEDIA_TYPE.modelConfig, [tar]).describe().weights.kind, 'archives');
  const safetensors = layer('application/vnd.cncf.model.weight.v1.raw', 's', 'model.safetensors');
  assert.throws(artifact(MEDIA_TYPE.modelConfig, [safetensors]).describe, {
    code: 'NOT_SUPPORTED',
    message: /"model\.safetensors"/,
  });
});

test('a container image is no model, and says so', () => {
  const image = artifact('application/vnd.oci.image.config.v1+json', [
    layer('application/vnd.oci.image.layer.v1.tar+gzip'),
  ]);
  assert.equal(foreignFamily(image.document), undefined);
  assert.throws(image.describe, {
    code: 'NOT_SUPPORTED',
    message: /neither a package of Freehold nor a model/,
  });
});

test('a hostile config or manifest is refused with a code, never with a fault', () => {
  const types = ['application/vnd.ollama.image.model', 'application/vnd.docker.ai.gguf.v3', 'x'];
  const configs = [OLLAMA_CONFIG, DOCKER_CONFIG, KITOPS_CONFIG, MEDIA_TYPE.modelConfig];
  fc.assert(
    fc.property(
      fc.constantFrom(...configs),
      fc.constantFrom(...types),
      fc.jsonValue(),
      (configType, type, config) => {
        try {
          artifact(configType, [layer(type)], config).describe();
        } catch (error) {
          assert.ok(error instanceof FreeholdError && error.code !== 'INTERNAL', String(error));
        }
      },
    ),
  );
});
