import type { Command } from 'commander';
import { catalogEntries, catalogEntry, catalogFaults } from '../app/catalog.ts';
import type { Freehold } from '../app/freehold.ts';
import { registerFeedCommands } from './feed-commands.ts';
import type { AddAction } from './program.ts';
import { formatBytes, harmless, type Terminal, table } from './terminal.ts';

/** `catalog list`, `catalog show`, and the feeds. */
export function registerCatalogCommands(program: Command, add: AddAction): void {
  const catalog = program.command('catalog').description('well-known open models with pinned digests');
  add(
    catalog
      .command('list')
      .option('--local', 'models of Ollama and LM Studio on this machine instead')
      .description('what can be installed by name'),
    async ({ freehold, terminal }, _args, options: { local?: boolean }) => {
      if (options.local === true) return listLocal(freehold, terminal);
      const entries = await catalogEntries(freehold);
      const rows = entries.map((entry) => [
        entry.name,
        formatBytes(entry.sizeBytes),
        entry.quantization,
        String(entry.contextTokens),
        entry.license,
      ]);
      terminal.result(entries, table(terminal, ['NAME', 'SIZE', 'TYPE', 'CONTEXT', 'LICENCE'], rows));
      for (const fault of await catalogFaults(freehold)) terminal.note(`note: ${harmless(fault)}`);
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
  registerFeedCommands(catalog, add);
}

async function listLocal(freehold: Freehold, terminal: Terminal): Promise<number> {
  const { listLocalModels } = await import('../app/install-local.ts');
  const models = await listLocalModels(freehold);
  const rows = models.map((model) => [
    harmless(model.reference),
    formatBytes(model.sizeBytes),
    harmless(model.folder),
  ]);
  const text =
    rows.length === 0
      ? 'no models of Ollama or LM Studio on this machine'
      : table(terminal, ['REFERENCE', 'SIZE', 'FOLDER'], rows);
  terminal.result(models, text);
  return 0;
}
