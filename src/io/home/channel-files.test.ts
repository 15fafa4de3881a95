import assert from 'node:assert/strict';
import { chmod, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { temporaryFolder } from '../../../tests/fixtures/freehold-home.ts';
import { ChannelStore } from './channel-store.ts';
import { ChannelsFile } from './channels-file.ts';
import { deviceId } from './device-id.ts';
import { homeLock } from './home-lock.ts';

async function open(context: TestContext) {
  const home = await temporaryFolder(context);
  const lock = homeLock(path.join(home, 'home.lock'));
  return { home, store: new ChannelStore(home, lock), file: new ChannelsFile(home, lock) };
}

const FROM = { host: 'registry.acme.example', repository: 'acme/triage' };
const files = (text: string) => new Map([['timestamp.json', Buffer.from(text)]]);

describe('what a home keeps of channels', () => {
  test('a device gets one id, whoever asks first, and nobody else may read it', async (context) => {
    const { home } = await open(context);
    const ids = await Promise.all(Array.from({ length: 8 }, () => deviceId(home)));
    assert.equal(new Set(ids).size, 1);
    assert.match(ids[0] ?? '', /^[0-9a-f]{32}$/);
    assert.equal(await deviceId(home), ids[0]);
    assert.equal((await stat(path.join(home, 'device.json'))).mode & 0o777, 0o600);
    await writeFile(path.join(home, 'device.json'), '{"schemaVersion":1,"id":"../../etc"}');
    await assert.rejects(deviceId(home), { code: 'CONFIG_INVALID', hint: /move .*device\.json away/ });
    await chmod(path.join(home, 'device.json'), 0o644);
    await assert.rejects(deviceId(home), { code: 'PERMISSION_DENIED' });
    const other = await temporaryFolder(context);
    assert.notEqual(await deviceId(other), ids[0]);
  });

  test('verified metadata come back byte for byte, each package in its own file', async (context) => {
    const { home, store } = await open(context);
    assert.equal(await store.load('acme/triage'), undefined);
    assert.deepEqual(await store.names(), []);
    await store.save('acme/triage', files('{"a": "ü"}\n'), () => true);
    await store.save('triage', files('{}'), () => true);
    assert.deepEqual(await store.load('acme/triage'), files('{"a": "ü"}\n'));
    assert.deepEqual(await store.names(), ['acme/triage', 'triage']);
    assert.deepEqual((await readdir(path.join(home, 'channels'))).sort(), [
      'acme%2Ftriage.json',
      'triage.json',
    ]);
    await assert.rejects(store.load('../triage'), { code: 'NAME_INVALID' });
  });

  test('what is older than what another process stored does not replace it', async (context) => {
    const { store } = await open(context);
    await store.save('triage', files('{"new":1}'), () => true);
    const seen: string[] = [];
    await store.save('triage', files('{"old":1}'), (stored) => {
      seen.push(stored.get('timestamp.json')?.toString() ?? '');
      return false;
    });
    assert.deepEqual(seen, ['{"new":1}']);
    assert.deepEqual(await store.load('triage'), files('{"new":1}'));
  });

  test('a damaged file is named, and one that others may write is not read', async (context) => {
    const { home, store } = await open(context);
    await store.save('triage', files('{}'), () => true);
    const file = path.join(home, 'channels', 'triage.json');
    const text = await readFile(file, 'utf8');
    for (const damaged of [
      text.slice(0, -5),
      text.replace('triage', 'other'),
      '{}',
      text.replace('"name"', '"nam"'),
    ]) {
      await writeFile(file, damaged);
      await assert.rejects(store.load('triage'), { code: 'CONFIG_INVALID', message: /triage\.json/ });
    }
    await writeFile(file, text);
    await chmod(file, 0o622);
    await assert.rejects(store.load('triage'), { code: 'PERMISSION_DENIED' });
    await chmod(file, 0o600);
    await chmod(path.join(home, 'channels'), 0o777);
    await assert.rejects(store.load('triage'), { code: 'PERMISSION_DENIED' });
  });

  test('who follows what stands in a file that people may edit', async (context) => {
    const { file } = await open(context);
    assert.deepEqual([...(await file.load())], []);
    await file.follow('acme/triage', { from: FROM, channel: 'stable' });
    await file.publish('acme/own', FROM);
    const shown = await readFile(file.path, 'utf8');
    assert.match(
      shown,
      /^# .*\n[\s\S]*acme\/triage:\n {4}from: oci:\/\/registry\.acme\.example\/acme\/triage\n {4}channel: stable/,
    );
    await writeFile(file.path, shown.replace('channel: stable', 'channel: edge # for now'));
    assert.deepEqual([...(await file.load())], [['acme/triage', { from: FROM, channel: 'edge' }]]);
    assert.deepEqual([...(await file.published())], [['acme/own', FROM]]);
    await file.follow('acme/other', { from: FROM, channel: 'stable' });
    assert.match(await readFile(file.path, 'utf8'), /# for now/);
    await file.unfollow('acme/triage');
    assert.deepEqual([...(await file.load()).keys()], ['acme/other']);
    await assert.rejects(file.unfollow('acme/triage'), { code: 'NOT_FOUND' });
    for (const wrong of [
      'pakages: {}',
      'packages: { a/b/c: {} }',
      'packages: { a: { from: oci://x/y:1, channel: b } }',
    ]) {
      await writeFile(file.path, wrong);
      await assert.rejects(file.load(), { code: 'CONFIG_INVALID' });
      await assert.rejects(file.follow('acme/triage', { from: FROM, channel: 'stable' }), {
        code: 'CONFIG_INVALID',
      });
      assert.equal(await readFile(file.path, 'utf8'), wrong);
    }
  });
});
