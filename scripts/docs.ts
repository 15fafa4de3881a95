// Writes the generated pages. `npm run docs`.
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { errorsPage } from './errors-page.ts';

writeFileSync(path.join(path.dirname(import.meta.dirname), 'docs', 'ERRORS.md'), errorsPage());
