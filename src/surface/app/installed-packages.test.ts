import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Digest } from '../../core/base/digest.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import { parseReference } from '../../core/base/reference.ts';
import { ANNOTATION, MEDIA_TYPE, type OciDescriptor } from '../../core/format/oci.ts';
import { fullReference, installedPackages, resolveInstalled, selectInstalled } from './installed-packages.ts';

function entry(name: string, version: string, variant: string, memoryBytes = 1): OciDescriptor {
  return {
    mediaType: MEDIA_TYPE.manifest,
    digest: Digest.of(`${name}${version}${variant}`),
    size: 1,
    annotations: {
      [ANNOTATION.name]: name,
      [ANNOTATION.version]: version,
      [ANNOTATION.variant]: variant,
      [ANNOTATION.memoryBytes]: String(memoryBytes),
    },
  };
}

const packages = installedPackages([
  entry('acme/triage', '1.9.0', 'q4_0', 100),
  entry('acme/triage', '1.10.0', 'q4_0', 100),
  entry('acme/triage', '1.10.0', 'q8_0', 200),
  entry('acme/triage', '2.0.0-rc.1', 'q4_0', 100),
  entry('other/coder', '1.0.0', 'f16', 500),
  entry('third/coder', '1.0.0', 'f16', 500),
  // An image index and a foreign manifest are no packages.
  {
    mediaType: MEDIA_TYPE.index,
    digest: Digest.of('i'),
    size: 1,
    annotations: { [ANNOTATION.name]: 'acme/triage' },
  },
  { mediaType: MEDIA_TYPE.manifest, digest: Digest.of('f'), size: 1 },
]);

const chosen = (text: string, memoryBytesMax = 1000) =>
  fullReference(resolveInstalled(packages, text, memoryBytesMax));
const isCode = (code: string) => (error: unknown) => error instanceof FreeholdError && error.code === code;

test('the newest version, and of it the largest variant that fits', () => {
  assert.equal(chosen('triage'), 'acme/triage@2.0.0-rc.1#q4_0');
  assert.equal(chosen('acme/triage@1.10.0'), 'acme/triage@1.10.0#q8_0');
  assert.equal(chosen('acme/triage@1.10.0', 150), 'acme/triage@1.10.0#q4_0');
  assert.equal(chosen('acme/triage@1.10.0', 10), 'acme/triage@1.10.0#q4_0');
  assert.equal(chosen('triage@1.10.0#q4_0'), 'acme/triage@1.10.0#q4_0');
});

test('a reference selects every variant that it does not exclude', () => {
  const select = (text: string) => selectInstalled(packages, parseReference(text), text).length;
  assert.equal(select('triage'), 4);
  assert.equal(select('triage@1.10.0'), 2);
  assert.equal(select('triage#q4_0'), 3);
});

test('an ambiguous short name is refused, the whole name is not', () => {
  assert.throws(() => chosen('coder'), isCode('REFERENCE_INVALID'));
  assert.equal(chosen('third/coder'), 'third/coder@1.0.0#f16');
});

test('what is not there names what is', () => {
  assert.throws(
    () => chosen('triag'),
    (error) => error instanceof FreeholdError && /triage/.test(error.hint),
  );
  assert.throws(
    () => chosen('triage@3.0.0'),
    (error) => error instanceof FreeholdError && /1\.10\.0#q8_0/.test(error.hint),
  );
});
