import process from 'node:process';
import { fileError } from '../app/local-file.ts';
import { runCommandLine } from './program.ts';

const { stdin, stdout, stderr, env } = process;
// `freehold list | head` closes the pipe early: that is not an error of ours.
stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0);
  // A full disk behind `freehold list > file`: half a result must not pass for a whole one.
  const { code, message, exitCode } = fileError(error, 'standard output');
  stderr.write(`error: ${message} [${code}]\n`);
  process.exit(exitCode);
});
process.exitCode = await runCommandLine(process.argv.slice(2), { stdin, stdout, stderr, env });
