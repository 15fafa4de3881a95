import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { Digest } from '../../core/base/digest.ts';
import { makeFolder } from '../files/folder.ts';
import { isSystemError } from '../files/system-refusal.ts';
import { corrupt, onDisk } from './disk-error.ts';
import { kindOf, readSmallFile } from './plain-file.ts';
import { replaceFile } from './temp-file.ts';

/** OCI image specification 1.1, "image-layout.md": the version of the layout, not of the specification. */
const LAYOUT_BYTES = Buffer.from('{"imageLayoutVersion":"1.0.0"}');
/** Other tools write the same with blanks; nothing else belongs into it. */
const LAYOUT_BYTES_MAX = 1024;
/** What a creation that was cut off may have left behind; anything else means that the folder is not ours. */
const OWN_NAMES = ['oci-layout', 'index.json', 'blobs', 'tmp', 'partial', 'locks', 'verified'];
/** In the root of a disk of its own, made by mkfs. */
const HARMLESS_NAMES = ['lost+found'];

/** Where everything lies. `blobPath` takes a Digest, so no path is ever joined from an unchecked string. */
export interface Layout {
  readonly folder: string;
  readonly layoutFile: string;
  readonly indexFile: string;
  readonly blobFolder: string;
  readonly tempFolder: string;
  /** Downloads in the making, by the digest that they shall have. */
  readonly partialFolder: string;
  readonly verifiedFolder: string;
  /** Shared by whoever writes, exclusive for gc. */
  readonly leaseLock: string;
  /** Exclusive for whoever replaces `index.json`. */
  readonly indexLock: string;
  blobPath(digest: Digest): string;
  verifiedPath(digest: Digest): string;
}

/** The layout with its root in `folder`; looks at nothing on the disk. */
export function layoutOf(folder: string): Layout {
  const root = path.resolve(folder);
  const blobFolder = path.join(root, 'blobs', 'sha256');
  const verifiedFolder = path.join(root, 'verified');
  return {
    folder: root,
    layoutFile: path.join(root, 'oci-layout'),
    indexFile: path.join(root, 'index.json'),
    blobFolder,
    tempFolder: path.join(root, 'tmp'),
    partialFolder: path.join(root, 'partial'),
    verifiedFolder,
    leaseLock: path.join(root, 'locks', 'lease.lock'),
    indexLock: path.join(root, 'locks', 'index.lock'),
    blobPath: (digest) => path.join(blobFolder, Digest.hex(digest)),
    verifiedPath: (digest) => path.join(verifiedFolder, `${Digest.hex(digest)}.json`),
  };
}

/**
 * Makes the folder itself, or takes an empty one. A folder with somebody's files in it is refused: a mistyped path
 * must not scatter a store among documents.
 * @throws STORE_CORRUPT, PERMISSION_DENIED, DISK_FULL
 */
export async function claimFolder(layout: Layout): Promise<void> {
  await onDisk('create', layout.folder, async () => {
    try {
      await makeFolder(layout.folder);
      const strange = (await readdir(layout.folder)).find(
        (name) => ![...OWN_NAMES, ...HARMLESS_NAMES].includes(name),
      );
      if (strange !== undefined) {
        throw corrupt(layout.folder, `has no oci-layout but other files (${strange}); it is not a store`);
      }
    } catch (thrown) {
      if (isSystemError(thrown, 'EEXIST', 'ENOTDIR')) {
        throw corrupt(layout.folder, 'is not a folder', thrown);
      }
      throw thrown;
    }
  });
}

/** Writes `oci-layout`, last of all: its presence means that the rest is there. */
export async function writeLayoutFile(layout: Layout): Promise<void> {
  await replaceFile(layout, layout.layoutFile, LAYOUT_BYTES, 0o644);
}

/**
 * @throws STORE_CORRUPT with path and reason when `oci-layout` or the blob folder is not as it must be
 */
export async function verifyLayout(layout: Layout): Promise<void> {
  const text = (await readSmallFile(layout.layoutFile, LAYOUT_BYTES_MAX)).toString('utf8');
  if (!isLayoutDocument(text)) {
    throw corrupt(layout.layoutFile, 'is not {"imageLayoutVersion":"1.0.0"}');
  }
  if ((await kindOf(layout.blobFolder)) !== 'folder') throw corrupt(layout.blobFolder, 'is not a folder');
}

function isLayoutDocument(text: string): boolean {
  try {
    const json: unknown = JSON.parse(text);
    return JSON.stringify(json) === LAYOUT_BYTES.toString();
  } catch {
    return false;
  }
}
