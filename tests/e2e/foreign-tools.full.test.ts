import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { installReference } from '../../src/surface/app/install-reference.ts';
import { pushPackage } from '../../src/surface/app/push-package.ts';
import { withRepository } from '../../src/surface/app/registry-places.ts';
import { verifyReference } from '../../src/surface/app/verify-package.ts';
import {
  type DistributionGround,
  foreignTool,
  makeDistributionGround,
} from '../fixtures/distribution-ground.ts';
import { freehold } from '../fixtures/freehold-home.ts';
import { pythonEnvironment } from '../fixtures/python-environment.ts';
import {
  REGISTRY_PROGRAMS,
  type RegistryServer,
  registryMissing,
  startRegistryServer,
} from '../fixtures/registry-server.ts';
import { skipUnlessCi } from '../fixtures/skip.ts';

const REPOSITORY = 'acme/tiny';
const VARIANTS = ['full', 'q8_0'];
const signal = new AbortController().signal;

function missing(program: string): string | undefined {
  return spawnSync(program, ['--help']).error === undefined ? undefined : `needs the program ${program}`;
}

interface Shop extends DistributionGround {
  readonly from: RegistryServer;
  readonly to: RegistryServer;
  readonly digests: { readonly index: string; readonly variants: ReadonlyMap<string, string> };
}

/** A package pushed to a registry, and a second, empty registry of the other kind. */
async function makeShop(context: TestContext): Promise<Shop> {
  const ground = await makeDistributionGround(context, { yaml: ['variants: [{ name: full }, q8_0]'] });
  const [first = 'docker-registry', second = 'registry'] = REGISTRY_PROGRAMS;
  const from = await startRegistryServer(context, first);
  const to = await startRegistryServer(context, second);
  const pushed = await withRepository(
    ground.publisher,
    { host: from.host, repository: REPOSITORY },
    (place) => pushPackage(ground.publisher, REPOSITORY, place, REPOSITORY, { signal }),
  );
  const variants = new Map(pushed.variants.map(({ variant, manifestDigest }) => [variant, manifestDigest]));
  return { ...ground, from, to, digests: { index: pushed.indexDigest, variants } };
}

/** Installs both variants from a host and verifies every byte. */
async function assertInstallable(shop: Shop, host: string, name: string): Promise<void> {
  const { freehold: customer } = await shop.customer(name);
  for (const variant of VARIANTS) {
    const reference = `oci://${host}/${REPOSITORY}:1.0.0#${variant}`;
    const installed = await installReference(customer, reference, { signal });
    assert.equal(installed.variant, variant);
    assert.equal(installed.manifestDigest, shop.digests.variants.get(variant), 'the digest is the same');
  }
  assert.equal((await verifyReference(customer, REPOSITORY, signal)).length, VARIANTS.length);
}

const NO_SERVERS = REGISTRY_PROGRAMS.map(registryMissing).find((reason) => reason !== undefined);
const needs = (...programs: string[]) =>
  skipUnlessCi(NO_SERVERS ?? programs.map(missing).find((reason) => reason !== undefined));

describe("other people's tools move our packages unchanged", () => {
  test('publisher to both registries, customer from both: installed, verified, run', {
    skip: needs(),
  }, async (context) => {
    const shop = await makeShop(context);
    const target = `oci://${shop.to.host}/${REPOSITORY}`;
    const pushed = await freehold(['push', REPOSITORY, target, '--json'], { home: shop.publisherHome });
    assert.equal(pushed.code, 0, pushed.stderr);
    for (const [index, { host }] of [shop.from, shop.to].entries()) {
      await assertInstallable(shop, host, `customer-${index}`);
      const home = path.join(shop.folder, `customer-${index}`);
      const answered = await freehold(['run', 'tiny', 'hello', '--max-tokens', '4'], { home });
      assert.equal(answered.code, 0, answered.stderr);
    }
  });

  test('skopeo copies the whole index; without --all it takes a variant by its tag', {
    skip: needs('skopeo'),
  }, async (context) => {
    const shop = await makeShop(context);
    const plain = ['--src-tls-verify=false', '--dest-tls-verify=false', '--insecure-policy'];
    const at = (host: string, tag: string) => `docker://${host}/${REPOSITORY}:${tag}`;
    const copy = (tag: string, to: string, ...more: string[]) =>
      foreignTool('skopeo', ['copy', ...plain.slice(0, 2), ...more, at(shop.from.host, tag), to], {
        cwd: shop.folder,
      });
    await copy('1.0.0', at(shop.to.host, '1.0.0'), '--all');
    await assertInstallable(shop, shop.to.host, 'after-skopeo');
    await copy('1.0.0-q8_0', at(shop.to.host, 'alone'));
    const { freehold: customer } = await shop.customer('one-variant');
    const reference = `oci://${shop.to.host}/${REPOSITORY}:alone`;
    assert.equal((await installReference(customer, reference, { signal })).variant, 'q8_0');
    const layout = path.join(shop.folder, 'layout');
    await copy('1.0.0-q8_0', `oci:${layout}:1.0.0-q8_0`);
    assert.ok(existsSync(path.join(layout, 'index.json')));
    const listed = await foreignTool('umoci', ['ls', '--layout', layout], { cwd: shop.folder });
    assert.match(listed, /1\.0\.0-q8_0/);
  });

  test('crane copies index and variants between registries', { skip: needs('crane') }, async (context) => {
    const shop = await makeShop(context);
    const at = (host: string) => `${host}/${REPOSITORY}:1.0.0`;
    await foreignTool('crane', ['copy', '--insecure', at(shop.from.host), at(shop.to.host)], {
      cwd: shop.folder,
    });
    const digest = await foreignTool('crane', ['digest', '--insecure', at(shop.to.host)], {
      cwd: shop.folder,
    });
    assert.equal(digest.trim(), shop.digests.index);
    await assertInstallable(shop, shop.to.host, 'after-crane');
  });

  for (const withReferrers of [true, false]) {
    test(`regctl copies ${withReferrers ? 'with' : 'without'} referrers`, {
      skip: needs('regctl'),
    }, async (context) => {
      const shop = await makeShop(context);
      const options = { cwd: shop.folder };
      for (const { host } of [shop.from, shop.to]) {
        await foreignTool('regctl', ['registry', 'set', '--tls', 'disabled', host], options);
      }
      const at = (host: string) => `${host}/${REPOSITORY}:1.0.0`;
      const flags = withReferrers ? ['--referrers'] : [];
      await foreignTool('regctl', ['image', 'copy', ...flags, at(shop.from.host), at(shop.to.host)], options);
      await assertInstallable(shop, shop.to.host, 'after-regctl');
      const q8 = shop.digests.variants.get('q8_0') ?? '';
      const artifacts = await foreignTool(
        'regctl',
        ['artifact', 'list', `${shop.to.host}/${REPOSITORY}@${q8}`],
        options,
      );
      assert.equal(/sigstore\.bundle/.test(artifacts), withReferrers);
    });
  }

  test("PyPI's oras pulls a variant's tag, and the folder is installed", {
    skip: needs('python3'),
  }, async (context) => {
    const shop = await makeShop(context);
    const python = pythonEnvironment('venv-oras', ['oras==0.2.43'], ['python', '-c', 'import oras.client']);
    assert.equal(python.missing, undefined);
    const folder = path.join(shop.folder, 'pulled');
    const script = [
      'import sys, oras.client',
      'client = oras.client.OrasClient(insecure=True)',
      'client.pull(target=sys.argv[1], outdir=sys.argv[2])',
    ].join('\n');
    const target = `${shop.from.host}/${REPOSITORY}:1.0.0-q8_0`;
    await foreignTool(python.program('python'), ['-c', script, target, folder], { cwd: shop.folder });
    const { freehold: customer } = await shop.customer('after-oras');
    const installed = await installReference(customer, `file:${folder}`, { signal });
    assert.equal(installed.manifestDigest, shop.digests.variants.get('q8_0'));
  });
});
