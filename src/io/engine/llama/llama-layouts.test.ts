import assert from 'node:assert/strict';
import { test } from 'node:test';
import { locateLibrary } from './library-folder.ts';
import { defaultThreads } from './llama-engine.ts';
import { LLAMA_VERSION, requireKnownDefaults } from './llama-layouts.ts';
import { openLibrary } from './llama-library.ts';

test('the pinned library is the known one', () => {
  const library = openLibrary(locateLibrary());
  requireKnownDefaults(LLAMA_VERSION, library.modelDefaultParams(), library.contextDefaultParams());
});

test('any other version or default is refused by name', () => {
  const library = openLibrary(locateLibrary());
  const model = library.modelDefaultParams();
  const context = library.contextDefaultParams();
  const refused = (message: RegExp) => ({ code: 'PLATFORM_UNSUPPORTED', message });
  assert.throws(() => requireKnownDefaults('0.6.0', model, context), refused(/version = 0\.6\.0/));
  for (const name of Object.keys(context)) {
    assert.throws(
      () => requireKnownDefaults(LLAMA_VERSION, model, { ...context, [name]: 77 }),
      refused(new RegExp(`has ${name} = 77`)),
    );
  }
  for (const name of Object.keys(model)) {
    assert.throws(
      () => requireKnownDefaults(LLAMA_VERSION, { ...model, [name]: 77 }, context),
      refused(new RegExp(`has ${name} = 77`)),
    );
  }
});

test('a missing library names the package', () => {
  assert.throws(() => locateLibrary('linux', 'arm64'), {
    code: 'PLATFORM_UNSUPPORTED',
    message: /@node-llama-cpp\/linux-arm64/,
  });
  assert.throws(() => locateLibrary('plan9', 'mips'), {
    code: 'PLATFORM_UNSUPPORTED',
    message: /plan9-mips/,
  });
});

test('half of the processors, at least one thread', () => {
  assert.deepEqual(
    [1, 2, 3, 4, 16].map((count) => defaultThreads(count)),
    [1, 1, 1, 2, 8],
  );
});
