// Asks llama.cpp for the smallest model of every architecture that it knows and writes architectures.json, for those that
// have none yet or are named. Needed again when the pinned library changes: node tests/fuzz/synthesize-architectures.ts [NAME…]
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { ArchitectureModel } from './architectures.ts';
import { LlamaOracle } from './llama-oracle.ts';
import { PROFILES, synthesizeModel } from './synthesis.ts';

const FILE = path.join(import.meta.dirname, 'architectures.json');

const known = JSON.parse(readFileSync(FILE, 'utf8')) as Record<string, ArchitectureModel | null>;
const wanted = process.argv.slice(2);
const folder = mkdtempSync(path.join(tmpdir(), 'freehold-synthesize-'));
const oracle = new LlamaOracle(folder);
for (const name of Object.keys(known)) {
  if (wanted.length > 0 ? !wanted.includes(name) : known[name] !== null) continue;
  known[name] = null;
  for (const profile of PROFILES) {
    const { model, verdict } = await synthesizeModel(name, profile, oracle, folder);
    console.log(`${name}: ${verdict.verdict} ${verdict.said}`);
    if (verdict.verdict !== 'accepts') continue;
    known[name] = model;
    break;
  }
}
await oracle.close();
rmSync(folder, { recursive: true });
const lines = Object.entries(known).map(
  ([name, model]) => `  ${JSON.stringify(name)}: ${JSON.stringify(model)}`,
);
writeFileSync(FILE, `{\n${lines.join(',\n')}\n}\n`);
console.log(`${Object.values(known).filter((model) => model !== null).length} of ${lines.length}`);
