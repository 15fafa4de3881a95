import {
  type Document,
  isMap,
  isScalar,
  isSeq,
  parseDocument,
  Scalar,
  type YAMLMap,
  type YAMLSeq,
} from 'yaml';
import { formatFingerprint, parsePublicKey } from '../../core/crypto/keys.ts';
import type { TrustedKey, TrustPattern } from '../../core/crypto/trust-policy.ts';

const FILE_COMMENT = ` Whose signatures count for which packages.
 The most specific pattern that matches a name decides, alone; what no pattern matches is refused.
 Patterns: acme/triage, acme/*, acme/triage-*, or * for everything.`;

/**
 * The text of a `trust.yaml` as a tree that keeps comments, order and spelling. It must have been read by the strict
 * reader before; aliases are not followed here, so compare what the edited text says with what it should say.
 */
export function openTrustDocument(text: string): Document {
  const document: Document = parseDocument(text);
  if (!isMap(document.contents)) document.contents = document.createNode({});
  if (text.trim() === '') document.commentBefore = FILE_COMMENT;
  return document;
}

/** The key must not be listed under the pattern yet. */
export function addKeyNode(document: Document, { pattern, key }: TrustedKey): void {
  const node = new Scalar(key.pem);
  node.type = Scalar.BLOCK_LITERAL;
  node.commentBefore = ownComment({ pattern, key });
  const keys = listAt(document, findRule(document, pattern) ?? appendRule(document, pattern), 'keys');
  keys.flow = false;
  keys.add(node);
}

/** Removes the rule with everything in it; nothing when there is none. */
export function removeRuleNode(document: Document, pattern: TrustPattern): void {
  const rules = listAt(document, document, 'rules');
  rules.items = rules.items.filter((item) => !(isMap(item) && item.get('pattern') === pattern));
}

/** Removes one key and the comment that `addKeyNode` put above it; an emptied rule stays. */
export function removeKeyNode(document: Document, trusted: TrustedKey): void {
  const rule = findRule(document, trusted.pattern);
  if (rule === undefined) return;
  const keys = listAt(document, rule, 'keys');
  const { fingerprint } = trusted.key;
  keys.items = keys.items.filter(
    (item) => !isScalar(item) || parsePublicKey(String(item.value), 'a key').fingerprint !== fingerprint,
  );
  // The comment above a list's first item belongs to the list, and would go over to the next key.
  const comment = keys.commentBefore?.split('\n').filter((line) => line !== ownComment(trusted));
  keys.commentBefore = comment === undefined || comment.length === 0 ? null : comment.join('\n');
}

const ownComment = ({ key }: TrustedKey) => ` ${formatFingerprint(key.fingerprint)}`;

function findRule(document: Document, pattern: TrustPattern): YAMLMap | undefined {
  const rules = listAt(document, document, 'rules');
  return rules.items.find((item): item is YAMLMap => isMap(item) && item.get('pattern') === pattern);
}

function appendRule(document: Document, pattern: TrustPattern): YAMLMap {
  const rules = listAt(document, document, 'rules');
  const rule = document.createNode({ pattern, keys: [] }) as YAMLMap;
  rules.flow = false;
  rules.add(rule);
  return rule;
}

/** The list under a key, made when it is not there. */
function listAt(document: Document, parent: Document | YAMLMap, name: string): YAMLSeq {
  const list = parent.get(name);
  if (isSeq(list)) return list;
  const created = document.createNode([]) as YAMLSeq;
  parent.set(name, created);
  return created;
}
