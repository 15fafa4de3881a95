import { createInterface } from 'node:readline/promises';
import type { Command } from 'commander';
import { FreeholdError } from '../../core/base/errors.ts';
import { catalogEntries, catalogEntry } from '../app/catalog.ts';
import { installReference } from '../app/install-reference.ts';
import { fullReference } from '../app/installed-packages.ts';
import type { AddAction, CommandContext } from './program.ts';
import { formatBytes, harmless, table } from './terminal.ts';

/** `catalog list`, `catalog show`, `install`. */
export function registerCatalogCommands(program: Command, add: AddAction): void {
  const catalog = program.command('catalog').description('well-known open models with pinned digests');
  add(
    catalog.command('list').description('what can be installed by name'),
    async ({ freehold, terminal }) => {
      const entries = await catalogEntries(freehold);
      const rows = entries.map((entry) => [
        entry.name,
        formatBytes(entry.sizeBytes),
        entry.quantization,
        String(entry.contextTokens),
        entry.license,
      ]);
      terminal.result(entries, table(terminal, ['NAME', 'SIZE', 'TYPE', 'CONTEXT', 'LICENCE'], rows));
      return 0;
    },
  );
  add(
    catalog.command('show').argument('<name>').description('one entry: licence, digest, sources in order'),
    async ({ freehold, terminal }, [name = '']) => {
      const entry = await catalogEntry(freehold, name.replace(/^catalog:/, ''));
      const lines = [
        `${terminal.paint('strong', entry.name)}  ${harmless(entry.title)}`,
        harmless(entry.description),
        `size        ${entry.sizeBytes} bytes (${formatBytes(entry.sizeBytes)})`,
        `digest      ${entry.digest}`,
        `licence     ${entry.license}  ${entry.licenseUrl}${entry.mustAccept ? '  (must be accepted)' : ''}`,
        `model       ${entry.architecture}, ${entry.parameterCount} parameters, ${entry.quantization}, context ${entry.contextTokens}`,
        'sources, in order',
        ...entry.sourceNames.map((source) => `  ${harmless(source)}`),
      ];
      terminal.result(entry, lines.join('\n'));
      return 0;
    },
  );

  add(
    program
      .command('install')
      .argument('<reference>', 'catalog:NAME, or file:FOLDER of an exported package')
      .option('--accept-license', 'accept the licence of a model that asks for it')
      .description('fetch, verify, and only then install a package'),
    async (context, [text = ''], options: { acceptLicense?: boolean }) => {
      const installed = await installAsking(context, text, options.acceptLicense === true);
      context.progress.clear();
      context.terminal.result(
        {
          reference: fullReference(installed),
          manifestDigest: installed.manifestDigest,
          isNew: installed.isNew,
        },
        `${installed.isNew ? 'installed' : 'already installed:'} ${fullReference(installed)}`,
      );
      return 0;
    },
  );
}

/** Asks for a licence that must be accepted when somebody is there to answer. */
export async function installAsking(context: CommandContext, reference: string, isLicenseAccepted: boolean) {
  const { freehold, signal, terminal } = context;
  try {
    return await installReference(freehold, reference, { isLicenseAccepted, signal });
  } catch (error) {
    const mayAsk =
      error instanceof FreeholdError && error.code === 'LICENSE_NOT_ACCEPTED' && terminal.isInteractive;
    if (!mayAsk || !(await confirm(context, `${error.message}\nDo you accept this licence? (yes/no) `)))
      throw error;
    return installReference(freehold, reference, { isLicenseAccepted: true, signal });
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
