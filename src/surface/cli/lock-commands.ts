import type { Command } from 'commander';
import type { InstalledModel, LockChange } from '../app/lock-models.ts';
import type { AddAction, CommandContext } from './program.ts';
import { harmless, table } from './terminal.ts';

interface LicenseFlags {
  readonly acceptLicense?: boolean;
}

/** `add`, `lock`. */
export function registerLockCommands(program: Command, add: AddAction): void {
  add(
    program
      .command('add')
      .argument('<model>', 'REF or KEY=REF: oci://HOST/NAME:RANGE, catalog:NAME, hf://…, file:PATH')
      .option('--accept-license', 'accept the licence of a model that asks for it')
      .description('put a model into freehold.yaml and its exact content into freehold.lock'),
    async (context, [text = ''], flags: LicenseFlags) => {
      const { addModel } = await import('../app/lock-models.ts');
      const change = await addModel(context.freehold, text, resolveOptions(context, flags));
      context.progress.clear();
      context.terminal.result(
        change,
        `${change.key} is ${harmless(change.reference)}; freehold install brings it`,
      );
      return 0;
    },
  );

  add(
    program
      .command('lock')
      .option('--upgrade [key...]', 'take the newest that freehold.yaml allows: of these models, or of all')
      .option('--accept-license', 'accept the licence of a model that asks for it')
      .description('bring freehold.lock up to date with freehold.yaml, without installing'),
    async (context, _args, flags: LicenseFlags & { upgrade?: true | readonly string[] }) => {
      const { lockApp } = await import('../app/lock-models.ts');
      const { upgrade } = flags;
      const changes = await lockApp(context.freehold, {
        ...resolveOptions(context, flags),
        ...(upgrade === undefined ? {} : { upgrade: upgrade === true ? 'all' : upgrade }),
      });
      context.progress.clear();
      context.terminal.result(changes, changesText(context, changes));
      return 0;
    },
  );
}

/** `freehold install` without a reference: what `freehold.yaml` and `freehold.lock` in this folder say. */
export async function installFromApp(
  context: CommandContext,
  flags: LicenseFlags & { readonly frozen?: boolean },
): Promise<number> {
  const { installApp } = await import('../app/lock-models.ts');
  const installed = await installApp(context.freehold, {
    ...resolveOptions(context, flags),
    isFrozen: flags.frozen === true,
  });
  context.progress.clear();
  context.terminal.result(installed, changesText(context, installed));
  return 0;
}

function resolveOptions({ signal }: CommandContext, { acceptLicense }: LicenseFlags) {
  return { signal, isLicenseAccepted: acceptLicense === true, folder: process.cwd() };
}

function changesText(
  { terminal }: CommandContext,
  changes: readonly (LockChange | InstalledModel)[],
): string {
  if (changes.length === 0) return 'freehold.yaml asks for no models';
  const rows = changes.map((change) => [change.key, change.reference, changeText(change)]);
  return table(terminal, ['MODEL', 'PACKAGE', 'CHANGE'], rows);
}

function changeText(change: LockChange | InstalledModel): string {
  const words: Record<LockChange['kind'], string> = {
    kept: 'as locked',
    added: 'locked',
    changed: `locked, was ${change.before ?? ''}`,
    removed: 'no longer locked',
  };
  return 'isNew' in change && change.isNew ? `${words[change.kind]}; installed` : words[change.kind];
}
