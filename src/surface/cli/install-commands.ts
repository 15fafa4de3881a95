import { createInterface } from 'node:readline/promises';
import type { Command } from 'commander';
import { FreeholdError } from '../../core/base/errors.ts';
import type { VariantChoice, VariantFacts } from '../../core/format/variant-choice.ts';
import type { ArtifactInstallResult } from '../app/install-artifact.ts';
import type { InstallResult } from '../app/install-package.ts';
import { installReference } from '../app/install-reference.ts';
import type { RegistryInstallOptions } from '../app/install-registry.ts';
import { fullReference, installedPackages, isVersionMeant } from '../app/installed-packages.ts';
import type { AddAction, CommandContext } from './program.ts';
import { choiceText } from './registry-commands.ts';
import { formatBytes, harmless } from './terminal.ts';

/** `install`, which is also called `pull`. */
export function registerInstallCommands(program: Command, add: AddAction): void {
  add(
    program
      .command('install')
      .alias('pull')
      .argument(
        '[reference]',
        'oci://HOST/NAME:VERSION, catalog:NAME, hf://OWNER/REPO:QUANT, file:PATH, ollama:NAME, lmstudio:NAME; none: what freehold.yaml says',
      )
      .option('--accept-license', 'accept the licence of a model that asks for it')
      .option(
        '--name <name>',
        'package name of an imported model, instead of the one that follows from its file',
      )
      .option('--frozen', 'exactly what freehold.lock has, which must fit freehold.yaml: for CI')
      .option(
        '--import',
        'take a model that nobody signed, though trust.yaml says who signs models of this name',
      )
      .option('--explain', 'say why this variant of a version was chosen')
      .option('--no-delta', 'fetch whole files, also where an installed version has most of the bytes')
      .option('--plain-http', 'a registry without TLS, not on this machine')
      .description('fetch, verify, and only then install a package'),
    async (context, [text], options: InstallFlags) => {
      if (text === undefined) {
        const { installFromApp } = await import('./lock-commands.ts');
        return installFromApp(context, options);
      }
      if (options.frozen === true) {
        throw new FreeholdError('USAGE', '--frozen is for freehold install without a reference');
      }
      const explained: { choice?: VariantChoice<VariantFacts> } = {};
      const installed = await installAsking(context, text, {
        isLicenseAccepted: options.acceptLicense === true,
        name: options.name,
        isWithoutDelta: !options.delta,
        plainHttp: options.plainHttp === true,
        mayImport: options.import === true,
        onChoice: (choice) => {
          explained.choice = choice;
          if (options.explain === true) context.terminal.note(choiceText(context.terminal, choice));
        },
      });
      context.progress.clear();
      if ('remarks' in installed) {
        for (const remark of installed.remarks) context.terminal.note(`note: ${harmless(remark)}`);
      }
      context.terminal.result(
        {
          reference: fullReference(installed),
          manifestDigest: installed.manifestDigest,
          isNew: installed.isNew,
          contentDigest: installed.contentDigest,
          ...('source' in installed ? { source: installed.source, remarks: installed.remarks } : {}),
          ...('transfer' in installed ? { transfer: installed.transfer } : {}),
          ...(options.explain === true ? { variants: explained.choice?.verdicts ?? [] } : {}),
        },
        `${installed.isNew ? 'installed' : 'already installed:'} ${fullReference(installed)}${savedText(installed)}`,
      );
      const packages = installedPackages(await context.freehold.store.entries());
      if (!isVersionMeant(packages, installed.name, installed)) {
        const reference = `${installed.name}@${installed.version}`;
        context.terminal.note(
          `another version of ${installed.name} stays in use; freehold update rollback ${reference} puts this one in its place`,
        );
      }
      return 0;
    },
  );
}

interface InstallFlags {
  readonly acceptLicense?: boolean;
  readonly name?: string;
  readonly frozen?: boolean;
  readonly explain?: boolean;
  readonly delta: boolean;
  readonly plainHttp?: boolean;
  readonly import?: boolean;
}

/** What did not have to be fetched. */
function savedText(installed: InstallResult): string {
  if (!('transfer' in installed) || !installed.isNew) return '';
  const { fetchedBytes, reusedBytes } = (installed as ArtifactInstallResult).transfer;
  if (reusedBytes === 0) return '';
  return `\nfetched ${formatBytes(fetchedBytes)}; ${formatBytes(reusedBytes)} were here`;
}

/** Asks for a licence that must be accepted when somebody is there to answer. */
export async function installAsking(
  context: CommandContext,
  reference: string,
  options: Omit<RegistryInstallOptions, 'signal'>,
) {
  const { freehold, signal, terminal } = context;
  try {
    return await installReference(freehold, reference, { ...options, signal });
  } catch (error) {
    const mayAsk =
      error instanceof FreeholdError && error.code === 'LICENSE_NOT_ACCEPTED' && terminal.isInteractive;
    if (!mayAsk || !(await confirm(context, `${error.message}\nDo you accept this licence? (yes/no) `)))
      throw error;
    return installReference(freehold, reference, { ...options, isLicenseAccepted: true, signal });
  }
}

async function confirm({ terminal, signal }: CommandContext, question: string): Promise<boolean> {
  const reader = createInterface({ input: terminal.streams.stdin, output: terminal.streams.stderr });
  try {
    return /^y(es)?$/i.test((await reader.question(question, { signal })).trim());
  } finally {
    reader.close();
  }
}
