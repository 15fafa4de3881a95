import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { globSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { pythonEnvironment } from '../../../tests/fixtures/python-environment.ts';
import { Digest } from '../base/digest.ts';
import { encodePrivateKey, generatePrivateKey, type PrivateKey, parsePrivateKey } from './keys.ts';
import {
  contentDigest,
  type ModelSignatureEvidence,
  parseModelSignature,
  requireSameFiles,
  type SignedResource,
  signModel,
  verifyModelSignature,
} from './model-signing.ts';

// The reference implementation of OpenSSF Model Signing, from the Python package index.
const environment = pythonEnvironment(
  'venv-model-signing',
  ['model-signing==1.1.1', 'pyOpenSSL'],
  ['model_signing', '--version'],
);
const TOOL = environment.program('model_signing');

const missing = environment.missing ?? false;
const isRequired = process.env.CI === 'true';
const skip = isRequired ? false : missing;

const root = mkdtempSync(path.join(tmpdir(), 'freehold-oms-'));
after(() => rmSync(root, { recursive: true, force: true }));
before(() => assert.equal(isRequired && missing, false));

/** Names whose order differs between whole names and path segments, and one beyond ASCII. */
const CONTENTS: Readonly<Record<string, string>> = {
  'weights.gguf': 'GGUF'.repeat(1000),
  'freehold.json': '{}',
  LICENSE: 'free',
  'd/x': 'one',
  'd-1': 'two',
  'd.txt': 'three',
  'd/e/f': '',
  'é.txt': 'four',
};

interface Model {
  readonly folder: string;
  readonly privateKey: PrivateKey;
  readonly privateKeyPath: string;
  readonly publicKeyPath: string;
}

let count = 0;
function newModel(privateKey = generatePrivateKey()): Model {
  const base = path.join(root, `case-${count++}`);
  const folder = path.join(base, 'model');
  for (const [name, content] of Object.entries(CONTENTS)) {
    mkdirSync(path.dirname(path.join(folder, name)), { recursive: true });
    writeFileSync(path.join(folder, name), content);
  }
  const privateKeyPath = path.join(base, 'a.key');
  const publicKeyPath = path.join(base, 'a.pub');
  writeFileSync(privateKeyPath, encodePrivateKey(privateKey), { mode: 0o600 });
  writeFileSync(publicKeyPath, privateKey.publicKey.pem);
  return { folder, privateKey, privateKeyPath, publicKeyPath };
}

const newKey = (namedCurve: string) =>
  parsePrivateKey(
    generateKeyPairSync('ec', { namedCurve }).privateKey.export({ format: 'pem', type: 'pkcs8' }) as string,
    namedCurve,
  );

const signatureOf = ({ folder }: Model, name = 'model.sig') => path.join(folder, name);

function filesOf({ folder }: Model): SignedResource[] {
  return globSync('**/*', { cwd: folder })
    .filter((name) => statSync(path.join(folder, name)).isFile() && !/^model(?:\.\d)?\.sig$/.test(name))
    .map((name) => ({ name, digest: Digest.of(readFileSync(path.join(folder, name))) }));
}

function signOurselves(model: Model, name = 'model.sig'): void {
  const bytes = signModel({ subjectName: 'model', resources: filesOf(model), privateKey: model.privateKey });
  writeFileSync(signatureOf(model, name), bytes);
}

function verifyOurselves(model: Model, name = 'model.sig'): ModelSignatureEvidence {
  const parsed = parseModelSignature(readFileSync(signatureOf(model, name)), name);
  const evidence = verifyModelSignature(parsed, model.privateKey.publicKey);
  requireSameFiles(evidence, filesOf(model));
  return evidence;
}

function tool(
  verb: 'sign' | 'verify',
  model: Model,
  ...options: string[]
): { readonly isFine: boolean; readonly output: string } {
  const key =
    verb === 'sign' ? ['--private_key', model.privateKeyPath] : ['--public_key', model.publicKeyPath];
  const result = spawnSync(
    TOOL,
    [verb, 'key', model.folder, '--signature', signatureOf(model), ...key, ...options],
    {
      encoding: 'utf8',
    },
  );
  return { isFine: result.status === 0, output: result.stdout + result.stderr };
}

const toolSigns = (model: Model, ...options: string[]) => {
  const { isFine, output } = tool('sign', model, ...options);
  assert.ok(isFine, output);
};

for (const curve of ['P-256', 'P-384', 'P-521']) {
  test(`model_signing verifies what Freehold signed with ${curve}`, { skip }, () => {
    const model = newModel(newKey(curve));
    signOurselves(model);
    const { isFine, output } = tool('verify', model);
    assert.ok(isFine, output);
  });

  test(`Freehold verifies what model_signing signed with ${curve}`, { skip }, () => {
    const model = newModel(newKey(curve));
    toolSigns(model);
    const evidence = verifyOurselves(model);
    assert.deepEqual([...evidence.ignorePaths].sort(), [
      '.git',
      '.gitattributes',
      '.github',
      '.gitignore',
      'model.sig',
    ]);
    assert.equal(evidence.contentDigest, contentDigest(filesOf(model)));
    // The tool orders by path segments; the specification, and we, by whole names.
    const names = evidence.resources.map(({ name }) => name);
    assert.ok(names.indexOf('d/x') < names.indexOf('d-1'));
    assert.notEqual(evidence.subjectDigest, evidence.contentDigest);
  });
}

test('without subfolders the two give one subject digest', { skip }, () => {
  const model = newModel();
  rmSync(path.join(model.folder, 'd'), { recursive: true });
  toolSigns(model);
  const evidence = verifyOurselves(model);
  assert.equal(evidence.subjectDigest, contentDigest(filesOf(model)));
});

test('a co-signature beside the first one disturbs neither tool', { skip }, () => {
  const model = newModel();
  signOurselves(model);
  signOurselves(model, 'model.2.sig');
  const { isFine, output } = tool('verify', model);
  assert.ok(isFine, output);
  verifyOurselves(model, 'model.2.sig');
});

const TAMPERINGS: readonly (readonly [what: string, code: string, change: (model: Model) => void])[] = [
  ['an altered file', 'DIGEST_MISMATCH', ({ folder }) => writeFileSync(path.join(folder, 'd/x'), 'onE')],
  ['a missing file', 'SIGNATURE_INVALID', ({ folder }) => rmSync(path.join(folder, 'LICENSE'))],
  ['an additional file', 'SIGNATURE_INVALID', ({ folder }) => writeFileSync(path.join(folder, 'd/new'), '')],
  [
    'a renamed file',
    'SIGNATURE_INVALID',
    ({ folder }) => {
      writeFileSync(path.join(folder, 'license'), CONTENTS.LICENSE ?? '');
      rmSync(path.join(folder, 'LICENSE'));
    },
  ],
];

for (const [what, code, change] of TAMPERINGS) {
  for (const signer of ['Freehold', 'model_signing']) {
    test(`both refuse ${what} after ${signer} signed`, { skip }, () => {
      const model = newModel();
      if (signer === 'Freehold') signOurselves(model);
      else toolSigns(model);
      change(model);
      assert.equal(tool('verify', model).isFine, false);
      assert.throws(() => verifyOurselves(model), { code });
    });
  }
}

test('both refuse a wrong key and an altered bundle', { skip }, () => {
  const model = newModel();
  signOurselves(model);
  const other = generatePrivateKey();
  writeFileSync(model.publicKeyPath, other.publicKey.pem);
  assert.equal(tool('verify', model).isFine, false);
  assert.throws(() => verifyOurselves({ ...model, privateKey: other }), { code: 'SIGNATURE_INVALID' });
  writeFileSync(model.publicKeyPath, model.privateKey.publicKey.pem);
  const bundle = JSON.parse(readFileSync(signatureOf(model), 'utf8'));
  const payload = Buffer.from(bundle.dsseEnvelope.payload, 'base64').toString().replace('"d/x"', '"d/y"');
  bundle.dsseEnvelope.payload = Buffer.from(payload).toString('base64');
  writeFileSync(signatureOf(model), JSON.stringify(bundle));
  assert.equal(tool('verify', model).isFine, false);
  assert.throws(() => verifyOurselves(model), { code: 'SIGNATURE_INVALID' });
});

test('where model_signing looks away, Freehold does not: an ignored file, a file under .git', {
  skip,
}, () => {
  const ignoring = newModel();
  const hidden = path.join(ignoring.folder, 'run.py');
  writeFileSync(hidden, 'harmless');
  toolSigns(ignoring, '--ignore-paths', hidden);
  writeFileSync(hidden, 'hostile');
  assert.equal(tool('verify', ignoring).isFine, true);
  assert.throws(() => verifyOurselves(ignoring), {
    code: 'SIGNATURE_INVALID',
    message: /leaves out "run\.py"/,
  });

  const withGit = newModel();
  toolSigns(withGit);
  mkdirSync(path.join(withGit.folder, '.git'));
  writeFileSync(path.join(withGit.folder, '.git', 'hook'), 'hostile');
  assert.equal(tool('verify', withGit).isFine, true);
  const evidence = verifyModelSignature(
    parseModelSignature(readFileSync(signatureOf(withGit)), 'model.sig'),
    withGit.privateKey.publicKey,
  );
  const files = [...filesOf(withGit), { name: '.git/hook', digest: Digest.of('hostile') }];
  assert.throws(() => requireSameFiles(evidence, files), {
    code: 'SIGNATURE_INVALID',
    message: /does not cover "\.git\/hook"/,
  });
});

test('links allowed by model_signing are refused', { skip }, () => {
  const model = newModel();
  toolSigns(model, '--allow_symlinks');
  assert.throws(() => verifyOurselves(model), { code: 'NOT_SUPPORTED', message: /allow_symlinks/ });
});
