import fs from 'node:fs';
import path from 'node:path';
import { Digest } from '../../src/core/base/digest.ts';
import { type Disk, type DiskNode, type NodeId, type Tree, type TreeNode, treeKey } from './disk-model.ts';

/** A real folder as a disk of the model. Two names of one file are one inode. */
export function readDisk(folder: string): Disk {
  const nodes = new Map<NodeId, DiskNode>();
  const known = new Map<bigint, NodeId>();
  const visit = (file: string): NodeId => {
    const status = fs.lstatSync(file, { bigint: true });
    const seen = known.get(status.ino);
    if (seen !== undefined) return seen;
    const id = known.size;
    known.set(status.ino, id);
    const mode = Number(status.mode) & 0o7777;
    if (status.isDirectory()) {
      const entries = new Map(
        fs
          .readdirSync(file)
          .sort()
          .map((name) => [name, visit(path.join(file, name))]),
      );
      nodes.set(id, { kind: 'folder', mode, entries });
    } else if (status.isFile()) {
      nodes.set(id, { kind: 'file', mode, bytes: fs.readFileSync(file) });
    } else {
      throw new Error(`${file} is neither file nor folder`);
    }
    return id;
  };
  return { root: visit(path.resolve(folder)), nodes };
}

/** What really lies in a folder, to be compared with a tree of the model. */
export function readTree(folder: string): Tree {
  const { root, nodes: found } = readDisk(folder);
  const nodes: TreeNode[] = [];
  const visit = (node: NodeId, name: string) => {
    const it = found.get(node);
    if (it === undefined) throw new Error(`no inode ${node}`);
    const bytes = it.kind === 'file' ? it.bytes : Buffer.alloc(0);
    const digest = it.kind === 'file' ? Digest.hex(Digest.of(bytes)) : '';
    nodes.push({ path: name, kind: it.kind, mode: it.mode, node, content: { bytes, digest } });
    if (it.kind === 'file') return;
    for (const [entry, child] of [...it.entries].sort(([left], [right]) => (left < right ? -1 : 1))) {
      visit(child, name === '' ? entry : `${name}/${entry}`);
    }
  };
  visit(root, '');
  return { key: treeKey(nodes), nodes };
}

/** Makes `folder`, which must not exist, what the tree says. */
export function writeTree(folder: string, tree: Tree): void {
  const written = new Map<NodeId, string>();
  for (const { path: name, kind, mode, node, content } of tree.nodes) {
    const file = path.join(folder, name);
    const firstName = written.get(node);
    written.set(node, file);
    if (kind === 'folder') fs.mkdirSync(file);
    else if (firstName !== undefined) fs.linkSync(firstName, file);
    else fs.writeFileSync(file, content.bytes);
    fs.chmodSync(file, mode);
  }
}

/** One line for each node, for messages: `store/index.json 644 1234 bytes ab12cd34`. */
export function describeTree(tree: Tree): string {
  return tree.nodes
    .map(({ path: name, kind, mode, content }) => {
      const size =
        kind === 'folder' ? 'folder' : `${content.bytes.byteLength} bytes ${content.digest.slice(0, 8)}`;
      return `${name || '.'} ${(mode & 0o7777).toString(8)} ${size}`;
    })
    .join('\n');
}
