import { fileURLToPath } from 'node:url';
import { openChannel } from '../sandbox/child-channel.ts';
import { ChildSession } from './child-session.ts';

// Entry of the process that holds one model. The sandbox is in force before this runs.

// The launcher imports this module, so `import.meta.main` is false even in its own process.
if (process.argv[1] === fileURLToPath(import.meta.url)) await new ChildSession(openChannel()).serve();
