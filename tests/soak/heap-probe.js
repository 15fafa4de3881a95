// Loaded into the server before its own code (`--import`): on SIGUSR2 it collects all garbage and says what is left.
// The resident size says little about a leak: V8 keeps pages for long that hold nothing any more.
import v8 from 'node:v8';
import vm from 'node:vm';

v8.setFlagsFromString('--expose-gc');
const collectGarbage = vm.runInNewContext('gc');

process.on('SIGUSR2', () => {
  collectGarbage();
  const { heapUsed, external } = process.memoryUsage();
  process.stderr.write(`live-bytes ${heapUsed + external}\n`);
});
