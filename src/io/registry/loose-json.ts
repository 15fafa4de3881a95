/** What a registry says beside documents: undefined where it is no JSON. What is in it, a schema decides. */
export function parseLoosely(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString('utf8'));
  } catch {
    return undefined;
  }
}
