import type { Command } from 'commander';
import { fullReference } from '../app/installed-packages.ts';
import { listInstalled } from '../app/package-list.ts';
import type { AddAction } from './program.ts';
import { formatBytes, harmless, shortDigest, table } from './terminal.ts';
import { noticeLines } from './version-notices.ts';

/** What a home signed for itself says that the bytes are those that came, not who made them. */
function signedText({ name, isSigned }: { readonly name: string; readonly isSigned: boolean }): string {
  if (!isSigned) return 'no';
  return /^(?:catalog|local)\//.test(name) ? 'here' : 'yes';
}

/** `list`, `remove`, `check`, `gc`. */
export function registerStoreCommands(program: Command, add: AddAction): void {
  add(program.command('list').description('installed packages'), async ({ freehold, terminal }) => {
    const packages = await listInstalled(freehold);
    const isHeldShown = packages.some(({ held }) => held !== undefined);
    const header = ['NAME', 'VERSION', 'VARIANT', 'SIZE', 'SIGNED', 'CONTENT'];
    const rows = packages.map((item) => [
      item.name,
      item.version,
      item.variant,
      formatBytes(item.sizeBytes),
      signedText(item),
      shortDigest(item.contentDigest),
      ...(isHeldShown ? [item.held ?? ''] : []),
    ]);
    const notices = packages.flatMap((item) => noticeLines(terminal, fullReference(item), item));
    const text =
      rows.length === 0
        ? `nothing is installed: freehold install catalog:${await starterName()}`
        : table(terminal, isHeldShown ? [...header, 'HELD BACK'] : header, rows);
    terminal.result(packages, [text, ...notices].join('\n'));
    return 0;
  });

  add(
    program
      .command('remove')
      .argument('<model>', 'NAME[@VERSION][#VARIANT]')
      .option('--dry-run', 'only say what would go')
      .description('remove a package, and the bytes that nothing else uses'),
    async ({ freehold, terminal }, [model = ''], options: { dryRun?: boolean }) => {
      const { removeInstalled } = await storeUpkeep();
      const removed = await removeInstalled(freehold, model, options.dryRun === true);
      const verb = options.dryRun === true ? 'would remove' : 'removed';
      terminal.result(
        { removed: removed.packages.map(fullReference), freedBytes: removed.freedBytes },
        [
          ...removed.packages.map((item) => `${verb} ${fullReference(item)}`),
          ...(options.dryRun === true ? [] : [`freed ${formatBytes(removed.freedBytes)}`]),
        ].join('\n'),
      );
      return 0;
    },
  );

  add(
    program
      .command('check')
      .option(
        '--remote <repository>',
        'oci://HOST/NAME: ask a registry for everything that its tags refer to',
      )
      .option('--plain-http', 'with --remote: a registry without TLS, not on this machine')
      .description('hash every byte in the store again and verify every signature'),
    async ({ freehold, terminal, signal }, _args, options: { remote?: string; plainHttp?: boolean }) => {
      if (options.remote !== undefined) {
        const { checkRepository } = await import('./registry-commands.ts');
        return checkRepository({ freehold, terminal, signal }, options.remote, options.plainHttp === true);
      }
      const { checkStore } = await storeUpkeep();
      const report = await checkStore(freehold, signal);
      terminal.result(
        report,
        [
          ...report.problems.map((problem) => `${terminal.paint('bad', 'damaged')} ${harmless(problem)}`),
          ...report.remarks.map((remark) => `note: ${harmless(remark)}`),
          `${report.blobs} blobs, ${formatBytes(report.bytes)}, ${report.packages} ${report.packages === 1 ? 'package' : 'packages'}: ` +
            (report.problems.length === 0 ? 'all sound' : `${report.problems.length} problems`),
        ].join('\n'),
      );
      return report.problems.length === 0 ? 0 : 4;
    },
  );

  add(
    program
      .command('gc')
      .option('--dry-run', 'only say what would go')
      .description('delete bytes that no installed package uses'),
    async ({ freehold, terminal }, _args, options: { dryRun?: boolean }) => {
      const { collectGarbage } = await storeUpkeep();
      const result = await collectGarbage(freehold, options.dryRun === true);
      const verb = options.dryRun === true ? 'would free' : 'freed';
      terminal.result(result, `${verb} ${formatBytes(result.freedBytes)} in ${result.removed} files`);
      return 0;
    },
  );
}

// Imported when needed: `list` is what people and scripts call most often, and these are half of its start.
const storeUpkeep = () => import('../app/store-upkeep.ts');
const starterName = async () => (await import('../app/catalog.ts')).STARTER_NAME;
