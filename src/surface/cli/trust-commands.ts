import type { Command } from 'commander';
import { addTrust, createKey, listKeys, listTrust, publicKeyOf, removeTrust } from '../app/keys-and-trust.ts';
import { readTextFile } from '../app/local-file.ts';
import { signPackages } from '../app/sign-package.ts';
import { verifyReference } from '../app/verify-package.ts';
import type { AddAction } from './program.ts';
import { shortDigest, table } from './terminal.ts';

/** A public key in PEM is a few hundred bytes. */
const KEY_FILE_BYTES_MAX = 16 * 1024;

/** `key`, `trust`, `sign`, `verify`. */
export function registerTrustCommands(program: Command, add: AddAction): void {
  registerKeyCommands(program, add);
  registerPolicyCommands(program, add);
  registerSignatureCommands(program, add);
}

function registerKeyCommands(program: Command, add: AddAction): void {
  const key = program.command('key').description('keys that sign packages');
  add(
    key.command('new').argument('<name>').description('make an ECDSA P-256 key pair'),
    async (context, [name = '']) => {
      const made = await createKey(context.freehold, name);
      context.terminal.result(
        { name, fingerprint: made.fingerprint, publicKey: made.publicKeyPem, path: made.path },
        `key ${name}\nfingerprint ${made.displayFingerprint}\n${made.publicKeyPem.trimEnd()}`,
      );
      context.terminal.note(`the private key is in ${made.path}: keep a copy in a safe place`);
      return 0;
    },
  );
  add(key.command('list').description('names and fingerprints'), async ({ freehold, terminal }) => {
    const keys = await listKeys(freehold);
    const rows = keys.map((item) => [item.name, item.displayFingerprint]);
    const text =
      rows.length === 0
        ? 'no keys yet: freehold key new NAME'
        : table(terminal, ['NAME', 'FINGERPRINT'], rows);
    terminal.result(
      keys.map(({ name, fingerprint }) => ({ name, fingerprint })),
      text,
    );
    return 0;
  });
  add(
    key.command('show').argument('<name>').description('the public key, to give to customers'),
    async ({ freehold, terminal }, [name = '']) => {
      const shown = await publicKeyOf(freehold, name);
      terminal.result(
        { name, fingerprint: shown.fingerprint, publicKey: shown.publicKeyPem },
        shown.publicKeyPem.trimEnd(),
      );
      return 0;
    },
  );
}

function registerPolicyCommands(program: Command, add: AddAction): void {
  const trust = program.command('trust').description('whose signatures count, and for which packages');
  add(
    trust
      .command('add')
      .argument('<pattern>', 'package name, or publisher/*')
      .argument('<keyfile>', 'public key in PEM')
      .description('trust a key for packages of this name'),
    async ({ freehold, terminal }, [pattern = '', file = '']) => {
      const pem = await readTextFile(file, { bytesMax: KEY_FILE_BYTES_MAX });
      const added = await addTrust(freehold, pattern, pem);
      terminal.result(
        { pattern, fingerprint: added.fingerprint },
        `trusted for ${pattern}\nfingerprint ${added.displayFingerprint}`,
      );
      terminal.note('compare the fingerprint with the one that the publisher told you');
      return 0;
    },
  );
  add(trust.command('list').description('the trust policy in force'), async ({ freehold, terminal }) => {
    const rules = await listTrust(freehold);
    const rows = rules.map((rule) => [rule.pattern, rule.displayFingerprint]);
    const text = rows.length === 0 ? 'nothing is trusted' : table(terminal, ['PACKAGES', 'KEY'], rows);
    terminal.result(
      rules.map(({ pattern, fingerprint }) => ({ pattern, fingerprint })),
      text,
    );
    return 0;
  });
  add(
    trust.command('remove').argument('<pattern>').argument('[fingerprint]').description('take trust back'),
    async ({ freehold, terminal }, [pattern = '', fingerprint]) => {
      const count = await removeTrust(freehold, pattern, fingerprint);
      terminal.result(
        { pattern, removed: count },
        `removed ${count} ${count === 1 ? 'key' : 'keys'} for ${pattern}`,
      );
      return 0;
    },
  );
}

function registerSignatureCommands(program: Command, add: AddAction): void {
  add(
    program
      .command('sign')
      .argument('<model>', 'NAME[@VERSION][#VARIANT] in the store')
      .requiredOption('--key <name>', 'a key of `freehold key list`')
      .description('sign a built package (all its variants, unless one is named)'),
    async ({ freehold, terminal, signal }, [model = ''], options: { key: string }) => {
      const signed = await signPackages(freehold, model, options.key, signal);
      terminal.result(
        signed,
        signed
          .map(
            (item) =>
              `signed ${item.reference}\n  content  ${item.contentDigest}\n  manifest ${item.manifestDigest}`,
          )
          .join('\n'),
      );
      return 0;
    },
  );
  add(
    program
      .command('verify')
      .argument('<model>', 'NAME[@VERSION][#VARIANT], or file:FOLDER of an exported package')
      .description('check the signature under the trust policy, and every byte of every file'),
    async ({ freehold, terminal, signal }, [model = '']) => {
      const verified = await verifyReference(freehold, model, signal);
      terminal.result(
        verified,
        verified
          .map((item) => {
            const head = `${terminal.paint('good', 'verified')} ${item.reference}`;
            const signer = `  signed by ${item.signer}, trusted for ${item.trustedFor}`;
            return [
              head,
              signer,
              ...item.files.map((file) => `  ${shortDigest(file.digest)}  ${file.path}`),
            ].join('\n');
          })
          .join('\n'),
      );
      return 0;
    },
  );
}
