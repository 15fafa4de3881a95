import { createReadStream } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { Digest } from '../../core/base/digest.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import { encodeTarHeader, TAR_END_BYTES, tarPaddingBytes } from '../../core/format/archive-tar.ts';
import type { BlobReference } from '../../core/format/artifact-place.ts';
import { NODE_PACKAGE, type ProgramFile, programFiles } from './program-files.ts';

const CHUNK_BYTES = 1 << 20;

/** The folder that unpacking makes, and the command in it. */
const PROGRAM_FOLDER = 'freehold';

/** Finds the Node beside it, also through links to itself. */
const LAUNCHER = `#!/bin/sh
here=$(dirname -- "$(readlink -f -- "$0")")
exec "$here/node_modules/${NODE_PACKAGE}/bin/node" "$here/bin/freehold.js" "$@"
`;

/** Freehold itself as one tar: a blob of an archive. */
export interface ProgramArchive extends BlobReference {
  open(): AsyncIterable<Uint8Array>;
}

/**
 * The running program as a tar with the one folder `freehold/`: the same files give the same bytes.
 * @throws FILE_MISSING, NAME_INVALID
 */
export async function packProgram(root: string, signal: AbortSignal): Promise<ProgramArchive> {
  const files = await programFiles(root);
  const open = () => tarOf(files, signal);
  const hash = Digest.begin();
  let sizeBytes = 0;
  for await (const bytes of open()) {
    hash.update(bytes);
    sizeBytes += bytes.byteLength;
  }
  return { digest: Digest.finish(hash), sizeBytes, open };
}

async function* tarOf(files: readonly ProgramFile[], signal: AbortSignal): AsyncGenerator<Uint8Array> {
  const launcher = Buffer.from(LAUNCHER);
  const name = `${PROGRAM_FOLDER}/freehold`;
  yield encodeTarHeader({ name, sizeBytes: launcher.byteLength, isExecutable: true });
  yield launcher;
  yield Buffer.alloc(tarPaddingBytes(launcher.byteLength));
  for (const file of files) {
    signal.throwIfAborted();
    yield encodeTarHeader({ ...file, name: `${PROGRAM_FOLDER}/${file.name}` });
    let sizeBytes = 0;
    for await (const bytes of bytesOf(file)) {
      sizeBytes += bytes.byteLength;
      yield bytes;
    }
    if (sizeBytes !== file.sizeBytes) {
      throw new FreeholdError('SIZE_MISMATCH', `${file.path} changed while it was read`);
    }
    yield Buffer.alloc(tarPaddingBytes(sizeBytes));
  }
  yield Buffer.alloc(TAR_END_BYTES);
}

/** Most of the 2,700 files are small: opening a stream for each takes longer than reading them. */
async function* bytesOf({ path, sizeBytes }: ProgramFile): AsyncGenerator<Uint8Array> {
  if (sizeBytes <= CHUNK_BYTES) yield await readFile(path);
  else yield* createReadStream(path, { highWaterMark: CHUNK_BYTES }) as AsyncIterable<Buffer>;
}

/**
 * The script that a bare machine runs first: needs a shell, tar and sha256sum. It unpacks the program, whose digest it
 * knows, and hands over to it.
 */
export function restoreScript(program: BlobReference, blobName: string): Buffer {
  const hex = Digest.hex(program.digest);
  return Buffer.from(`#!/bin/sh
# Unpacks Freehold from an archive and restores the archive with it. Needs no network, no Node and no npm.
#   sh restore.sh ARCHIVE.tar [options of "freehold archive restore"]
# ARCHIVE.tar may be split: then its parts ARCHIVE.tar.001, ... lie beside each other.
# Freehold goes to the folder "${PROGRAM_FOLDER}" in the current folder, or to $FREEHOLD_PROGRAM.
set -eu

fail() {
  echo "error: $1" >&2
  exit "$2"
}

[ $# -ge 1 ] || fail 'usage: sh restore.sh ARCHIVE.tar [options]' 2
archive=$1
shift
# Of a split archive any part may be named.
case $archive in *.tar.[0-9][0-9][0-9] | *.tar.parts.json) archive=\${archive%.tar.*}.tar ;; esac
program=\${FREEHOLD_PROGRAM:-$PWD/${PROGRAM_FOLDER}}

[ "$(uname -s)-$(uname -m)" = Linux-x86_64 ] || fail 'this archive holds Freehold for Linux on x86-64' 7

read_archive() {
  if [ -f "$archive" ]; then cat -- "$archive"; else cat -- "$archive".[0-9][0-9][0-9]; fi
}

if [ "$(cat "$program/.digest" 2>/dev/null)" != ${hex} ]; then
  [ ! -e "$program" ] || fail "$program exists and is another one: move it away, or set FREEHOLD_PROGRAM" 2
  [ -f "$archive" ] || [ -f "$archive.001" ] || fail "$archive does not exist" 3
  partial=$program.partial
  rm -rf -- "$partial"
  mkdir -p -- "$partial"
  trap 'rm -rf -- "$partial"' EXIT
  echo "unpacking Freehold to $program" >&2
  # Some tars leave before the end of what they read: the digest says whether all is there.
  read_archive | tar -xO -f - ${blobName} >"$partial/program.tar" || true
  echo "${hex}  $partial/program.tar" | sha256sum -c --status - ||
    fail "Freehold in $archive is damaged: copy the archive again" 4
  tar -x -f "$partial/program.tar" -C "$partial"
  echo ${hex} >"$partial/${PROGRAM_FOLDER}/.digest"
  mv -- "$partial/${PROGRAM_FOLDER}" "$program"
fi

"$program/freehold" archive restore "$archive" "$@"
echo "Freehold is $program/freehold" >&2
`);
}
