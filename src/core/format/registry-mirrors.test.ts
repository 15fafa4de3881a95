import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseConfigYaml } from '../base/config-file.ts';
import { FreeholdError } from '../base/errors.ts';
import { parseRepositoryName } from '../base/registry-reference.ts';
import { registryMirrorsSchema, registryPlaces } from './registry-mirrors.ts';

const rulesOf = (text: string) => parseConfigYaml(text, registryMirrorsSchema, 'mirrors.yaml');
const placesFor = (text: string, name: string) =>
  registryPlaces(rulesOf(text), parseRepositoryName(name)).map(
    ({ name: { host, repository } }) => `${host}/${repository}`,
  );

test('mirrors come first, in order, and the registry itself last', () => {
  const rules = 'registry.acme.example: [mirror.local:5000/acme-cache, other.example]';
  assert.deepEqual(placesFor(rules, 'registry.acme.example/acme/triage'), [
    'mirror.local:5000/acme-cache/acme/triage',
    'other.example/acme/triage',
    'registry.acme.example/acme/triage',
  ]);
  assert.deepEqual(placesFor(rules, 'elsewhere.example/acme/triage'), ['elsewhere.example/acme/triage']);
  assert.deepEqual(placesFor('{}', 'a.example/b'), ['a.example/b']);
});

test('the longest prefix of whole components counts, and is replaced', () => {
  const rules =
    'r.example: [all.example]\nr.example/acme: [m.example/x]\nr.example/acme/triage: [n.example/y/z]';
  assert.equal(placesFor(rules, 'r.example/acme/triage')[0], 'n.example/y/z');
  assert.equal(placesFor(rules, 'r.example/acme/other/deep')[0], 'm.example/x/other/deep');
  assert.equal(placesFor(rules, 'r.example/acmecorp/other')[0], 'all.example/acmecorp/other');
});

test('an entry for the registry itself says how to connect to it, and keeps its place in the order', () => {
  const rules = rulesOf(
    'r.example: [{ place: r.example, tokenRealms: [auth.example], ca: own.pem }, { place: m.example, plainHttp: true }]',
  );
  const places = registryPlaces(rules, { host: 'r.example', repository: 'a/b' });
  assert.deepEqual(places, [
    {
      name: { host: 'r.example', repository: 'a/b' },
      plainHttp: false,
      caFile: 'own.pem',
      tokenRealms: ['auth.example'],
    },
    { name: { host: 'm.example', repository: 'a/b' }, plainHttp: true, caFile: undefined, tokenRealms: [] },
  ]);
});

test('what is no registry, and what nobody knows, is refused with its place', () => {
  const wrong: Record<string, RegExp> = {
    'http://r.example: [m.example]': /http:\/\/r\.example/,
    'r.example: [https://m.example]': /not a registry's host/,
    'r.example: [{ place: m.example, insecure: true }]': /insecure/,
    'r.example: [{ place: m.example, plainHttp: yes }]': /plainHttp/,
    'r.example: []': /r\.example/,
    'r.example: [m.example/UPPER]': /UPPER/,
  };
  for (const [text, message] of Object.entries(wrong)) {
    assert.throws(
      () => rulesOf(text),
      (error) =>
        error instanceof FreeholdError && error.code === 'CONFIG_INVALID' && message.test(error.message),
      text,
    );
  }
});
