/**
 * Preloaded into a process (`--import kill-at.ts?root=FOLDER&call=17&when=during`): kills it with SIGKILL at its Nth call
 * that changes something below the folder, either before the system is asked or while it is at it.
 */
import { watchFileCalls } from './file-calls.ts';

const { searchParams } = new URL(import.meta.url);
const call = Number(searchParams.get('call'));
const when = searchParams.get('when');
let calls = 0;

const kill = () => process.kill(process.pid, 'SIGKILL');

await watchFileCalls({
  root: searchParams.get('root') ?? '',
  observer: {
    began() {
      calls++;
      if (calls !== call) return 0;
      // Asked first, killed in the same moment: a thread of the pool may or may not have come to it.
      if (when === 'during') queueMicrotask(kill);
      else kill();
      return 0;
    },
  },
});
