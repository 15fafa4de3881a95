/** One operation in a process of its own: `node operation-child.ts GROUND URL HOME NAME`. */
import { crashGround, killableOperationNamed } from './operations.ts';

const [ground = '', url = '', home = '', name = ''] = process.argv.slice(2);
await killableOperationNamed(name).run(crashGround(ground, url), home);
