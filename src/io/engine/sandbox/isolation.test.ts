import assert from 'node:assert/strict';
import { test } from 'node:test';
import { assembleIsolation, describeIsolation, type LauncherReport, LOSS } from './isolation.ts';

const COMPLETE: LauncherReport = {
  landlockAbi: 7,
  isLandlocked: true,
  isFiltered: true,
  hasNoNewPrivileges: true,
  failures: [],
};
const LOCKED = { diesWithParent: true, isUndumpable: true, isSealed: true, failures: [] };

test('a complete sandbox has lost nothing', () => {
  const isolation = assembleIsolation(COMPLETE, LOCKED, '');
  assert.equal(isolation.kind, 'sandbox');
  assert.deepEqual(isolation.lost, []);
  assert.match(describeIsolation(isolation), /^sandbox: files \(Landlock ABI 7\), [^;]+$/);
});

test('each part that fails is named by what may happen', () => {
  const lostWith = (
    launcher: Partial<LauncherReport>,
    lockDown: Partial<typeof LOCKED> = {},
  ): readonly string[] =>
    assembleIsolation({ ...COMPLETE, ...launcher }, { ...LOCKED, ...lockDown }, '').lost;
  assert.deepEqual(lostWith({ isLandlocked: false, landlockAbi: 0 }), [LOSS.files, LOSS.processes]);
  assert.deepEqual(lostWith({ isFiltered: false }), [LOSS.network, LOSS.programs, LOSS.processes]);
  assert.deepEqual(lostWith({ hasNoNewPrivileges: false }), [LOSS.privileges]);
  assert.deepEqual(lostWith({}, { diesWithParent: false }), [LOSS.orphan]);
  assert.deepEqual(lostWith({}, { isSealed: false }), [LOSS.programs]);
  assert.deepEqual(lostWith({}, { isUndumpable: false }), [LOSS.dumps]);
});

test('a process without Landlock and seccomp is called plain, whatever else holds', () => {
  const launcher = {
    ...COMPLETE,
    isLandlocked: false,
    isFiltered: false,
    failures: ['seccomp refused (errno 38)'],
  };
  const isolation = assembleIsolation(launcher, { ...LOCKED, isSealed: false }, 'reason');
  assert.equal(isolation.kind, 'plain');
  assert.deepEqual(isolation.lost, [LOSS.files, LOSS.network, LOSS.programs, LOSS.processes]);
  assert.match(
    describeIsolation(isolation),
    /^plain process \(seccomp refused \(errno 38\)\); not protected: the model/,
  );
});

test('without a launcher only what the child did for itself is claimed', () => {
  const lockDown = { ...LOCKED, isSealed: false, isUndumpable: false };
  const isolation = assembleIsolation(undefined, lockDown, 'no sandbox for darwin yet');
  const { orphan: _, ...others } = LOSS;
  assert.deepEqual(isolation, {
    kind: 'plain',
    lost: Object.values(others),
    reason: 'no sandbox for darwin yet',
  });
});
