import { spawn } from 'node:child_process';
import { z } from 'zod';
import { FreeholdError, systemErrorCode } from '../../core/base/errors.ts';
import { quoted } from '../../core/base/ids.ts';
import type { Environment } from '../http/http-connections.ts';
import type { Credentials } from './credentials.ts';

/** Some ask a person for a fingerprint or a cloud for a token. */
const HELPER_TIMEOUT_MS = 30_000;
const HELPER_OUTPUT_BYTES_MAX = 256 << 10;
/** The name becomes part of a program's name: no path, no option. */
const HELPER_NAME = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$/;
/** What helpers print on standard output when they have nothing; part of their protocol. */
const NOTHING = 'credentials not found';

const answerSchema = z.object({ Username: z.string(), Secret: z.string() });

/**
 * Runs `docker-credential-NAME get` with the host on its standard input. The program is the user's own and gets their
 * environment.
 * @returns undefined when it has nothing for this host
 * @throws CONFIG_INVALID for a name that is none; AUTHENTICATION_FAILED when it is missing, fails, is slow or says too
 *   much. Its output never gets into a message: it may hold the secret.
 */
export async function credentialHelper(
  name: string,
  server: string,
  environment: Environment,
  signal: AbortSignal,
): Promise<Credentials | undefined> {
  if (!HELPER_NAME.test(name)) {
    throw new FreeholdError('CONFIG_INVALID', `not the name of a credential helper: ${quoted(name)}`, {
      hint: "credsStore and credHelpers of docker's config.json name the X of docker-credential-X",
    });
  }
  const program = `docker-credential-${name}`;
  const { output, status } = await runHelper(program, server, environment, signal);
  if (status !== 0) {
    if (output.includes(NOTHING)) return undefined;
    throw failed(program, `ended with status ${status}`);
  }
  let answer: z.infer<typeof answerSchema>;
  try {
    answer = answerSchema.parse(JSON.parse(output));
  } catch {
    throw failed(program, 'did not answer in the form of a credential helper');
  }
  if (answer.Secret === '') return undefined;
  // The protocol's mark for an identity token.
  if (answer.Username === '<token>') return { kind: 'identity-token', token: answer.Secret };
  return { kind: 'password', username: answer.Username, password: answer.Secret };
}

function runHelper(
  program: string,
  server: string,
  environment: Environment,
  signal: AbortSignal,
): Promise<{ output: string; status: number | null }> {
  const { promise, resolve, reject } = Promise.withResolvers<{ output: string; status: number | null }>();
  const child = spawn(program, ['get'], { stdio: ['pipe', 'pipe', 'ignore'], env: { ...environment } });
  const stop = (error: unknown) => {
    child.kill('SIGKILL');
    // A child of its own may go on writing.
    child.stdout.destroy();
    reject(error);
  };
  const timer = setTimeout(
    () => stop(failed(program, `gave no answer within ${HELPER_TIMEOUT_MS / 1000} s`)),
    HELPER_TIMEOUT_MS,
  );
  const onAbort = () => stop(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  const parts: Buffer[] = [];
  let outputBytes = 0;
  child.stdout.on('data', (part: Buffer) => {
    outputBytes += part.byteLength;
    if (outputBytes > HELPER_OUTPUT_BYTES_MAX) stop(failed(program, 'says too much'));
    else parts.push(part);
  });
  child.on('error', (error) => {
    const isMissing = systemErrorCode(error) === 'ENOENT';
    reject(failed(program, isMissing ? 'is not installed' : 'cannot be started', error));
  });
  child.on('close', (status) => resolve({ output: Buffer.concat(parts).toString('utf8'), status }));
  // A helper that ends without reading is heard of by its status.
  child.stdin.on('error', () => {});
  child.stdin.end(`${server}\n`);
  return promise.finally(() => {
    clearTimeout(timer);
    signal.removeEventListener('abort', onAbort);
  });
}

const failed = (program: string, reason: string, cause?: unknown) =>
  new FreeholdError('AUTHENTICATION_FAILED', `the credential helper ${program} ${reason}`, {
    cause,
    hint: `run it by hand: echo HOST | ${program} get; or take it out of docker's config.json`,
  });
