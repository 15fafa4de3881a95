import type { Command } from 'commander';
import { parseRepository } from '../../core/base/registry-reference.ts';
import type { ArtifactPlace } from '../../core/format/artifact-place.ts';
import type { VariantChoice, VariantVerdict } from '../../core/format/variant-choice.ts';
import type { AddAction, CommandContext } from './program.ts';
import { formatBytes, harmless, type Terminal } from './terminal.ts';

interface PushFlags {
  readonly replace?: boolean;
  readonly tag?: readonly string[];
  readonly dryRun?: boolean;
  readonly chunkMaps: boolean;
  readonly plainHttp?: boolean;
  readonly repair?: boolean;
}

/** `push`. */
export function registerRegistryCommands(program: Command, add: AddAction): void {
  add(
    program
      .command('push')
      .argument('<model>', 'an installed or built package: NAME[@VERSION][#VARIANT]')
      .argument('<repository>', 'where to: oci://HOST/NAME')
      .option('--tag <tag...>', 'further tags for the version, for people')
      .option('--replace', 'put other content in the place of what the registry has under this version')
      .option('--no-chunk-maps', 'leave out what lets updates fetch only what changed')
      .option('--plain-http', 'a registry without TLS, not on this machine')
      .option('--repair', 'send again what the registry lost, then check that everything is there')
      .option('--dry-run', 'say what would be sent')
      .description('send a signed package to a registry: what it lacks, and nothing else'),
    async ({ freehold, terminal, progress, signal }, [text = '', target = ''], flags: PushFlags) => {
      const { pushPackage } = await import('../app/push-package.ts');
      const { withRepository } = await import('../app/registry-places.ts');
      const name = parseRepository(target);
      const report = await withRepository(
        freehold,
        name,
        (place) =>
          pushPackage(freehold, text, place, name.repository, {
            signal,
            isReplacing: flags.replace === true,
            isDryRun: flags.dryRun === true,
            isWithoutChunkMaps: !flags.chunkMaps,
            ...(flags.tag === undefined ? {} : { tags: flags.tag }),
          }),
        { plainHttp: flags.plainHttp === true },
      );
      progress.clear();
      const verb = flags.dryRun === true ? 'would send' : 'sent';
      const lines = [
        ...report.variants.map(
          ({ tag, manifestDigest }) => `oci://${name.host}/${name.repository}:${tag}  ${manifestDigest}`,
        ),
        ...report.tags.map((tag) => `oci://${name.host}/${name.repository}:${tag}  ${report.indexDigest}`),
        `${verb} ${formatBytes(report.writtenBytes)}; ${formatBytes(report.presentBytes)} were there`,
      ];
      terminal.result(report, lines.map(harmless).join('\n'));
      if (flags.repair !== true || flags.dryRun === true) return 0;
      return checkRepository({ freehold, terminal, signal }, target, flags.plainHttp === true);
    },
  );
}

/** `freehold check --remote`. @returns the exit code */
export async function checkRepository(
  { freehold, terminal, signal }: Pick<CommandContext, 'freehold' | 'terminal' | 'signal'>,
  text: string,
  plainHttp: boolean,
): Promise<number> {
  const { checkRemote } = await import('../app/check-remote.ts');
  const { withRepository } = await import('../app/registry-places.ts');
  const name = parseRepository(text);
  const work = (place: ArtifactPlace) => checkRemote(place, signal);
  const report = await withRepository(freehold, name, work, { plainHttp });
  const { tags, documents, blobs, problems } = report;
  const lines = [
    ...problems.map((problem) => `${terminal.paint('bad', 'missing')} ${harmless(problem)}`),
    `${tags} tags, ${documents} documents, ${blobs} blobs: ` +
      (problems.length === 0
        ? 'all there (bytes are compared when somebody installs)'
        : `${problems.length} problems; freehold push --repair sends them again`),
  ];
  terminal.result(report, lines.join('\n'));
  return problems.length === 0 ? 0 : 4;
}

/** The variants of a version, and why one of them was chosen. */
export function choiceText(terminal: Terminal, choice: VariantChoice<{ readonly name: string }>): string {
  return choice.verdicts
    .map((verdict) => {
      const { name, quantization, memoryBytes } = verdict.variant;
      const mark = verdict.kind === 'chosen' ? terminal.paint('good', '✓') : ' ';
      const needs = memoryBytes === 0 ? '' : formatBytes(memoryBytes).padStart(9);
      return `${mark} ${harmless(name).padEnd(16)} ${harmless(quantization).padEnd(8)} ${needs}  ${verdictText(verdict)}`;
    })
    .join('\n');
}

function verdictText(verdict: VariantVerdict): string {
  switch (verdict.kind) {
    case 'chosen':
      return verdict.isTight
        ? 'chosen: the smallest, since none fits into memory'
        : 'chosen: the largest that fits';
    case 'smaller':
      return 'fits; a larger one fits as well';
    case 'too-large':
      return `needs more than the ${formatBytes(verdict.memoryBytesMax)} that models may take here`;
    case 'unsupported':
      return `this machine lacks ${verdict.missing.map(harmless).join(', ')}`;
    default:
      return verdict satisfies never;
  }
}
