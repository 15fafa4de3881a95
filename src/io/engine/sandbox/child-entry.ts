import { closeSync, writeSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import { lockDown } from './child-channel.ts';
import type { ChildOrder, LaunchReport } from './launch-order.ts';

// First code of every child: locks the process down, says so, and only then runs the script.

/** Where there is no signal on the parent's death: how long a child may notice it late. */
const PARENT_CHECK_MS = 500;

async function main(order: ChildOrder, script: string): Promise<void> {
  const report: LaunchReport = { kind: 'locked', ...lockDown(order.isLaunched) };
  // The signal is only sent for a death that comes later.
  if (process.ppid !== order.parentPid) process.exit(1);
  if (!report.diesWithParent) watchParent(order.parentPid);
  writeSync(order.reportFd, `${JSON.stringify(report)}\n`);
  closeSync(order.reportFd);
  process.title = order.title;
  // The script sees the arguments that it would see if it had been started directly.
  process.argv.splice(1, 2);
  await import(pathToFileURL(script).href);
}

function watchParent(parentPid: number): void {
  const check = (): void => {
    if (process.ppid !== parentPid) process.exit(0);
  };
  setInterval(check, PARENT_CHECK_MS).unref();
}

if (import.meta.main) {
  await main(JSON.parse(process.argv[2] ?? '') as ChildOrder, process.argv[3] ?? '');
}
