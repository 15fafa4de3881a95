// Writes the generated pages. `npm run docs`.
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { conformancePage } from '../tests/fuzz/conformance-page.ts';
import { apiPage } from './api-page.ts';
import { errorsPage } from './errors-page.ts';
import { jsonSchemas } from './json-schemas.ts';

const DOCS = path.join(path.dirname(import.meta.dirname), 'docs');
const API = path.join(DOCS, 'API.md');
const CONFORMANCE = path.join(DOCS, 'GGUF-CONFORMANCE.md');

writeFileSync(path.join(DOCS, 'ERRORS.md'), errorsPage());
writeFileSync(API, apiPage(readFileSync(API, 'utf8')));
writeFileSync(CONFORMANCE, conformancePage(readFileSync(CONFORMANCE, 'utf8')));
for (const [file, text] of jsonSchemas()) writeFileSync(path.join(path.dirname(DOCS), 'spec', file), text);
