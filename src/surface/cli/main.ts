import process from 'node:process';
import { runCommandLine } from './program.ts';

const { stdin, stdout, stderr, env } = process;
// `freehold list | head` closes the pipe early: that is not an error of ours.
stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0);
  throw error;
});
process.exitCode = await runCommandLine(process.argv.slice(2), { stdin, stdout, stderr, env });
