import type { Command } from 'commander';
import { parseFingerprint } from '../../core/crypto/keys.ts';
import { PART_BYTES_MIN } from '../../core/format/archive-parts.ts';
import type { ApprovedKeys } from '../app/archive-packages.ts';
import { type RestoredArchive, restoreArchive } from '../app/archive-restore.ts';
import { type SavedArchive, saveArchive } from '../app/archive-save.ts';
import { type ArchiveVerification, verifyArchive } from '../app/archive-verify.ts';
import { type MirrorReport, mirror } from '../app/mirror.ts';
import { byteCount, collect } from './option-values.ts';
import type { AddAction } from './program.ts';
import { formatBytes, harmless, type Terminal } from './terminal.ts';

/** As if verification had thrown SIGNER_UNTRUSTED: the report says more than the error would. */
const UNTRUSTED_EXIT_CODE = 4;

/** What a file system, a disc or a mail server takes. */
const partSize = byteCount(PART_BYTES_MIN);

/** `archive save`, `archive verify`, `archive restore`, `mirror`. */
export function registerArchiveCommands(program: Command, add: AddAction): void {
  const archive = program
    .command('archive')
    .description('packages in one file, for machines without a network');
  registerSave(archive, add);
  registerVerify(archive, add);
  registerRestore(archive, add);
  registerMirror(program, add);
}

interface SaveOptions {
  readonly partSize?: number;
  readonly since?: string;
  readonly withoutFreehold?: boolean;
  readonly dryRun?: boolean;
}

function registerSave(archive: Command, add: AddAction): void {
  add(
    archive
      .command('save')
      .argument('<out>', 'the archive to write: models.tar')
      .argument('[models...]', 'NAME[@VERSION][#VARIANT]; none: all that is installed')
      .option('--part-size <size>', 'split into numbered parts of this size: 4GiB-1 for FAT32', partSize)
      .option('--since <archive>', 'leave out what this earlier archive holds')
      .option('--without-freehold', 'leave out Freehold itself')
      .option('--dry-run', 'count, and write nothing')
      .description('write packages, signatures and keys, and Freehold itself, to one file'),
    async ({ freehold, terminal, progress, signal }, [out = '', ...models], options: SaveOptions) => {
      const saved = await saveArchive(freehold, out, models, {
        signal,
        partBytes: options.partSize,
        since: options.since,
        isWithoutProgram: options.withoutFreehold === true,
        isDryRun: options.dryRun === true,
      });
      progress.clear();
      for (const remark of saved.remarks) terminal.note(harmless(remark));
      terminal.result(saved, savedText(saved));
      return 0;
    },
  );
}

function savedText(saved: SavedArchive): string {
  const { files, sizeBytes, digest, packages, hasProgram, heldBack, leftOut } = saved;
  const size = formatBytes(sizeBytes);
  return [
    digest === null ? `would write ${size}` : `wrote ${files[0] ?? ''} (${size}, ${files.length} files)`,
    ...packages.map((name) => `  ${name}`),
    ...heldBack.map((name) => `  without ${name}, which is held back`),
    hasProgram ? '  Freehold itself, with Node, for Linux x64' : '  without Freehold itself',
    ...(leftOut.blobs === 0
      ? []
      : [`  left out ${formatBytes(leftOut.bytes)}, which ${leftOut.archives.map(harmless).join(', ')} has`]),
    ...(digest === null ? [] : [`sha256  ${digest.slice('sha256:'.length)}  ${files.at(-1) ?? ''}`]),
  ]
    .join('\n')
    .replace(', 1 files)', ')');
}

function registerVerify(archive: Command, add: AddAction): void {
  add(
    archive
      .command('verify')
      .argument('<archive>', 'the file, or one of its parts')
      .description('hash every byte and verify every signature, and install nothing'),
    async ({ freehold, terminal, progress, signal }, [file = '']) => {
      const verified = await verifyArchive(freehold, file, signal);
      progress.clear();
      terminal.result(verified, verifiedText(terminal, verified));
      const isAllTrusted = verified.packages.every(({ outcome }) => outcome !== 'refused');
      return isAllTrusted ? 0 : UNTRUSTED_EXIT_CODE;
    },
  );
}

function verifiedText(
  terminal: Terminal,
  { packages, keys, sizeBytes, leftOut, hasProgram }: ArchiveVerification,
): string {
  const good = terminal.paint('good', 'whole');
  return [
    `${good}: ${formatBytes(sizeBytes)}, every byte as it was written`,
    ...packages.map(({ reference, outcome, remark }) => {
      const shown =
        outcome === 'refused' ? terminal.paint('bad', 'NOT trusted') : terminal.paint('good', 'verified');
      return `${shown} ${reference}\n  ${harmless(remark)}`;
    }),
    ...keys.map(({ pattern, fingerprint }) => `offers the key ${fingerprint} for ${pattern}`),
    ...(hasProgram ? ['has Freehold itself, for Linux x64 (restore.sh)'] : []),
    ...leftOut.map(
      ({ file, archive, isInStore }) =>
        `left out ${harmless(file)}: in ${harmless(archive)}${isInStore ? ', and in the store' : ''}`,
    ),
  ].join('\n');
}

interface RestoreOptions {
  readonly trust?: string[];
  readonly trustArchiveKeys?: boolean;
  readonly acceptLicense?: boolean;
}

function registerRestore(archive: Command, add: AddAction): void {
  add(
    archive
      .command('restore')
      .argument('<archive>', 'the file, or one of its parts')
      .option('--trust <fingerprint>', 'trust this key of the archive; may be repeated', collect)
      .option('--trust-archive-keys', 'trust every key of the archive, as when you wrote it yourself')
      .option('--accept-license', 'accept the licences of catalog models that ask for it')
      .description('verify and install all packages of an archive'),
    async ({ freehold, terminal, progress, signal }, [file = ''], options: RestoreOptions) => {
      const restored = await restoreArchive(freehold, file, {
        signal,
        approved: approvedKeys(options),
        isLicenseAccepted: options.acceptLicense === true,
      });
      progress.clear();
      for (const remark of restored.remarks) terminal.note(harmless(remark));
      terminal.result(restored, restoredText(restored));
      return 0;
    },
  );
}

function approvedKeys({ trust = [], trustArchiveKeys }: RestoreOptions): ApprovedKeys {
  if (trustArchiveKeys === true) return { kind: 'all' };
  return trust.length === 0 ? { kind: 'none' } : { kind: 'named', fingerprints: trust.map(parseFingerprint) };
}

function restoredText({ packages, trusted }: RestoredArchive): string {
  return [
    ...trusted.map(({ pattern, fingerprint }) => `trusted ${fingerprint} for ${pattern}`),
    ...packages.map(({ reference, isNew, how, held }) => {
      const done = isNew ? 'installed' : 'already installed:';
      const signed = how === 'signed again' ? " (signed with this home's key)" : '';
      return `${done} ${reference}${signed}${held === undefined ? '' : `, held back: ${held}`}`;
    }),
  ].join('\n');
}

interface MirrorCommandOptions {
  readonly tag?: string[];
  readonly dryRun?: boolean;
  readonly partSize?: number;
  readonly plainHttp?: boolean;
}

function registerMirror(program: Command, add: AddAction): void {
  add(
    program
      .command('mirror')
      .argument('<source>', 'oci://HOST/NAME[:TAG], layout:FOLDER[#NAME] or archive:FILE[#NAME]')
      .argument('<destination>', 'oci://HOST/NAME, oci://HOST/PREFIX/, layout:FOLDER or archive:FILE')
      .option('--tag <tag>', 'copy this tag only; may be repeated', collect)
      .option('--part-size <size>', 'split an archive that is written: 4GiB-1 for FAT32', partSize)
      .option('--plain-http', 'use http also for a registry on another machine')
      .option('--dry-run', 'count, and copy nothing')
      .description('copy artifacts, with all that refers to them, between registries, layouts and archives'),
    async ({ freehold, terminal, progress, signal }, [from = '', to = ''], options: MirrorCommandOptions) => {
      const copied = await mirror(freehold, from, to, {
        signal,
        ...(options.tag === undefined ? {} : { tags: options.tag }),
        isDryRun: options.dryRun === true,
        partBytes: options.partSize,
        plainHttp: options.plainHttp === true,
      });
      progress.clear();
      for (const remark of copied.remarks) terminal.note(harmless(remark));
      terminal.result(copied, mirroredText(copied, options.dryRun === true));
      return 0;
    },
  );
}

function mirroredText({ tags, writtenBytes, presentBytes }: MirrorReport, isDryRun: boolean): string {
  const verb = isDryRun ? 'would copy' : 'copied';
  return [
    ...tags.map(({ name, digest }) => `${verb} ${harmless(name)}  ${digest}`),
    `${formatBytes(writtenBytes)} sent, ${formatBytes(presentBytes)} there already`,
  ].join('\n');
}
