import type { Command } from 'commander';
import { buildPackage } from '../app/build-package.ts';
import { exportPackage } from '../app/export-package.ts';
import { initModel } from '../app/init-model.ts';
import { type Inspection, inspectPackage } from '../app/inspect-package.ts';
import type { AddAction } from './program.ts';
import { formatBytes, harmless, shortDigest, type Terminal } from './terminal.ts';

/** `init model`, `build`, `inspect`, `export`. */
export function registerPackageCommands(program: Command, add: AddAction): void {
  const init = program.command('init').description('scaffolds');
  add(
    init
      .command('model')
      .argument('[folder]', 'where model.yaml goes', '.')
      .option('--name <name>', 'publisher/model')
      .option('--weights <file>', 'GGUF file, relative to the folder')
      .description('write a model.yaml to start from'),
    async ({ freehold, terminal }, [folder = '.'], options: { name?: string; weights?: string }) => {
      const made = await initModel(freehold, folder, options);
      terminal.result(made, `wrote ${made.path}\nnext: edit it, then freehold build ${made.folder}`);
      return 0;
    },
  );

  add(
    program
      .command('build')
      .argument('[model]', 'model.yaml, or the folder it is in', '.')
      .option('--replace', 'replace this version in the store, although its content differs')
      .description('make a package from model.yaml and weights, in the store'),
    async ({ freehold, terminal, progress, signal }, [path = '.'], options: { replace?: boolean }) => {
      const built = await buildPackage(freehold, path, { mayReplace: options.replace === true, signal });
      progress.clear();
      const lines = built.variants.flatMap((variant) => [
        `built ${variant.reference}`,
        `  content  ${variant.contentDigest}`,
        `  manifest ${variant.manifestDigest}`,
        `  weights  ${formatBytes(variant.weightsBytes)}, ${variant.quantization}, ${variant.bitsPerWeight.toFixed(2)} bits per weight`,
        ...variant.notes.map((note) => `  note     ${note}`),
      ]);
      terminal.result(built, [...lines, `index ${built.indexDigest}`].join('\n'));
      if (built.variants.some((variant) => !variant.isSigned)) {
        terminal.note(`next: freehold sign ${built.name}@${built.version} --key NAME`);
      }
      return 0;
    },
  );

  add(
    program
      .command('inspect')
      .argument('<model>', 'NAME[@VERSION][#VARIANT]')
      .description('what is in a package, who signed it, which protection is in force'),
    async ({ freehold, terminal }, [model = '']) => {
      const inspection = await inspectPackage(freehold, model);
      terminal.result(inspection, inspectionText(terminal, inspection));
      return 0;
    },
  );

  add(
    program
      .command('export')
      .argument('<model>', 'NAME[@VERSION][#VARIANT]')
      .argument('<folder>', 'a folder that does not exist yet, or is empty')
      .description('verify a package and write its files, signature included, to a plain folder'),
    async ({ freehold, terminal, signal }, [model = '', folder = '']) => {
      const exported = await exportPackage(freehold, model, folder, signal);
      terminal.result(
        exported,
        `exported ${exported.reference} to ${exported.folder} (${exported.files.length} files)`,
      );
      return 0;
    },
  );
}

function inspectionText(terminal: Terminal, { descriptor, ...rest }: Inspection): string {
  const trust =
    rest.verification.kind === 'verified'
      ? `${terminal.paint('good', 'verified')}: signed by ${rest.verification.signer}, trusted for ${rest.verification.trustedFor}`
      : `${terminal.paint('bad', 'NOT verified')}: ${harmless(rest.verification.reason)} [${rest.verification.code}]`;
  const { model } = descriptor;
  return [
    terminal.paint('strong', rest.reference),
    ...(descriptor.description === undefined ? [] : [harmless(descriptor.description)]),
    `signature   ${trust}`,
    `protection  ${rest.protection}`,
    `licence     ${descriptor.license}`,
    `model       ${harmless(model.architecture)}, ${model.parameterCount} parameters, ${harmless(model.quantization)}, context ${model.contextTokens}, to ${model.purpose}`,
    `memory      about ${formatBytes(descriptor.memoryBytes)}`,
    `content     ${rest.contentDigest}`,
    `manifest    ${rest.manifestDigest}`,
    ...(descriptor.parameters === undefined
      ? []
      : [`parameters  ${harmless(JSON.stringify(descriptor.parameters))}`]),
    ...(descriptor.lineage === undefined
      ? []
      : [
          `lineage     ${descriptor.lineage.recipe} ${descriptor.lineage.quantize} of ${descriptor.lineage.base.map((digest) => `sha256:${shortDigest(digest)}`).join(', ')} by ${harmless(descriptor.lineage.tool)}`,
        ]),
    'files',
    ...descriptor.files.map(
      (file) =>
        `  ${shortDigest(file.digest)}  ${formatBytes(file.size).padStart(9)}  ${file.role.padEnd(13)}  ${file.path}`,
    ),
  ].join('\n');
}
