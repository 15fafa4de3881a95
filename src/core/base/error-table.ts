/** One row of the error table. `exit`: 1 failed check, 2 usage or config, 3 not found, 4 integrity or signature, 5 license, 6 network, 7 busy or resources, 70 our bug. */
export interface ErrorRow {
  readonly exit: 1 | 2 | 3 | 4 | 5 | 6 | 7 | 70 | 130;
  readonly http: number;
  /** Waiting and trying again may help. */
  readonly temporary?: true;
  /** One sentence for `docs/ERRORS.md`: when does a user see this? */
  readonly doc: string;
  /** What to do, when the place that throws has nothing more precise. */
  readonly hint: string;
}

const define = <Code extends string>(table: Record<Code, ErrorRow>): Readonly<Record<Code, ErrorRow>> =>
  table;

/** Every error that Freehold can report. `docs/ERRORS.md` is generated from it (`npm run docs`). */
export const ERROR_TABLE = define({
  // -- usage and configuration (exit 2)
  USAGE: {
    exit: 2,
    http: 400,
    doc: 'The command line has an unknown verb, option or argument.',
    hint: 'freehold help',
  },
  NAME_INVALID: {
    exit: 2,
    http: 400,
    doc: 'A package, variant, key or file name is not allowed.',
    hint: 'names are lower case letters, digits, ".", "_", "-", with at most one "/": acme/triage',
  },
  VERSION_INVALID: { exit: 2, http: 400, doc: 'A version is not SemVer 2.0.', hint: 'for example 1.4.0' },
  REFERENCE_INVALID: {
    exit: 2,
    http: 400,
    doc: 'A model reference cannot be read.',
    hint: 'NAME[@VERSION][#VARIANT], catalog:NAME or file:PATH',
  },
  DIGEST_INVALID: {
    exit: 2,
    http: 400,
    doc: 'A digest is not "sha256:" with 64 lower-case hexadecimal digits.',
    hint: 'copy the whole digest, sha256: included',
  },
  CONFIG_INVALID: {
    exit: 2,
    http: 400,
    doc: 'A file that a person writes (model.yaml, trust.yaml, mirrors.yaml) has an unknown key or a wrong value; the path stands in the message.',
    hint: 'correct the line that the message names',
  },
  KEY_INVALID: {
    exit: 2,
    http: 400,
    doc: 'A key file is not what it should be: one PEM key on the curve P-256, P-384 or P-521, public or private as asked for.',
    hint: 'freehold key new NAME makes a pair; hand out only the .pub file',
  },
  LOCK_MISMATCH: {
    exit: 2,
    http: 409,
    doc: 'freehold.lock does not say what freehold.yaml asks for, or what a lock pins is not what a registry or the store has now; both stand in the message.',
    hint: 'freehold lock brings freehold.lock up to date (with --upgrade also what it holds already); review the change and check it in',
  },
  NOT_SUPPORTED: {
    exit: 2,
    http: 400,
    doc: 'The request asks for something that this version does not do, by name.',
    hint: 'leave it out',
  },
  FIELD_NOT_SUPPORTED: {
    exit: 2,
    http: 400,
    doc: 'An API request has a field that this version does not honour; nothing is dropped silently.',
    hint: 'leave the field out',
  },
  REQUEST_INVALID: {
    exit: 2,
    http: 400,
    doc: 'An API request has a wrong field, type or value; `param` names it.',
    hint: 'correct the field that the message names',
  },
  SCHEMA_NOT_SUPPORTED: {
    exit: 2,
    http: 400,
    doc: 'A JSON schema has something that cannot be enforced while an answer is written; the path in the schema is named.',
    hint: 'leave out what the message names, or state it in a simpler way',
  },
  GRAMMAR_INVALID: {
    exit: 2,
    http: 400,
    doc: 'A GBNF grammar cannot be read, has no rule "root", or never ends.',
    hint: 'the notation is the one of llama.cpp; the rule "root" is the answer',
  },
  ADAPTER_INVALID: {
    exit: 2,
    http: 500,
    doc: 'A LoRA adapter cannot be used: it is none, or was made for another base.',
    hint: 'use an adapter in GGUF that was trained on exactly this model',
  },
  CONTEXT_EXCEEDED: {
    exit: 2,
    http: 400,
    doc: 'Prompt and answer do not fit into the context of the model; both numbers stand in the message.',
    hint: 'shorten the prompt or ask for fewer tokens',
  },
  MODALITY_NOT_SUPPORTED: {
    exit: 2,
    http: 400,
    doc: 'The request holds images or audio and the model reads text only.',
    hint: 'send text only',
  },
  TEMPLATE_FAILED: {
    exit: 2,
    http: 400,
    doc: 'The chat template of the model refused the messages, or exceeded its limits.',
    hint: 'check the order of the roles; not every model takes a system message',
  },
  LICENSE_NOT_ACCEPTED: {
    exit: 2,
    http: 403,
    doc: 'The licence of a model must be accepted before it is fetched.',
    hint: 'read the licence, then repeat with --accept-license',
  },
  OFFLINE: {
    exit: 6,
    http: 503,
    doc: 'Something would need the network, and --offline forbids it.',
    hint: 'leave out --offline, or add a local source to mirrors.yaml',
  },
  // -- not found (exit 3)
  NOT_FOUND: {
    exit: 3,
    http: 404,
    doc: 'A file, key or other named thing does not exist.',
    hint: 'check the name',
  },
  MODEL_NOT_FOUND: {
    exit: 3,
    http: 404,
    doc: 'No installed package, variant or catalog entry has this name.',
    hint: 'freehold list shows what is installed, freehold catalog list what can be',
  },
  ALREADY_EXISTS: {
    exit: 2,
    http: 409,
    doc: 'The thing to create exists already; nothing was overwritten.',
    hint: 'choose another name, or remove the old one first',
  },
  // -- integrity and signatures (exit 4)
  DIGEST_MISMATCH: {
    exit: 4,
    http: 500,
    doc: 'Bytes do not have the digest that they must have.',
    hint: 'freehold check lists every damaged file; install the package again',
  },
  SIZE_MISMATCH: {
    exit: 4,
    http: 500,
    doc: 'A file is shorter or longer than declared.',
    hint: 'freehold check lists every damaged file; install the package again',
  },
  FILE_MISSING: {
    exit: 4,
    http: 500,
    doc: 'A file that belongs to a package is not there.',
    hint: 'install the package again',
  },
  SIGNATURE_MISSING: {
    exit: 4,
    http: 500,
    doc: 'The package carries no signature.',
    hint: 'freehold sign NAME, or ask the publisher for a signed package',
  },
  SIGNATURE_INVALID: {
    exit: 4,
    http: 500,
    doc: 'A signature does not fit the bytes, or covers other files than the package has.',
    hint: 'get the package again from its publisher',
  },
  SIGNATURE_MALFORMED: {
    exit: 4,
    http: 500,
    doc: 'A signature bundle is not a well-formed OpenSSF Model Signing bundle.',
    hint: 'get the package again from its publisher',
  },
  SIGNATURE_UNSUPPORTED: {
    exit: 4,
    http: 500,
    doc: 'Every signature of the package was made by a method that this version cannot verify (certificate, sigstore).',
    hint: 'ask the publisher to sign with a key as well',
  },
  SIGNER_UNTRUSTED: {
    exit: 4,
    http: 500,
    doc: 'The signature is good, but the trust policy does not accept its key for this name.',
    hint: 'freehold trust add PATTERN KEYFILE, after comparing the fingerprint with the publisher',
  },
  MANIFEST_INVALID: {
    exit: 4,
    http: 500,
    doc: 'An OCI manifest, index or config is malformed, too large, or not a ModelPack.',
    hint: 'get the package again from its publisher',
  },
  PACKAGE_INVALID: {
    exit: 4,
    http: 500,
    doc: 'Manifest, config, annotations and the signed descriptor of a package disagree.',
    hint: 'get the package again from its publisher',
  },
  GGUF_INVALID: {
    exit: 4,
    http: 500,
    doc: 'A weights file is not a well-formed GGUF file; the offset stands in the message.',
    hint: 'fetch the file again; freehold reads GGUF version 2 and 3, little-endian',
  },
  GGUF_LIMIT: {
    exit: 4,
    http: 500,
    doc: 'A GGUF header exceeds one of our limits (metadata size, tensors, string length).',
    hint: 'the limits stand in spec/PACKAGE.md',
  },
  CHUNK_MAP_INVALID: {
    exit: 4,
    http: 500,
    doc: 'A chunk map is malformed or of another blob. Maps only save bytes: one that cannot be used is left aside.',
    hint: 'nothing to do; freehold push writes the maps of a package anew',
  },
  SAFETENSORS_INVALID: {
    exit: 4,
    http: 500,
    doc: 'A safetensors file is malformed, or its header exceeds our limits; the tensor stands in the message.',
    hint: 'fetch the file again',
  },
  STORE_CORRUPT: {
    exit: 4,
    http: 500,
    doc: 'The store itself (oci-layout, index.json, a blob) is damaged.',
    hint: 'restore the file, or move the store folder away and install again; freehold check names what is damaged',
  },
  CHANNEL_INVALID: {
    exit: 4,
    http: 500,
    doc: 'The channels of a package are not what their publisher signed: a signature, a digest, a size or a name is wrong, or a part is missing.',
    hint: 'nothing was changed; another mirror may have the right ones, else ask the publisher',
  },
  CHANNEL_EXPIRED: {
    exit: 4,
    http: 500,
    doc: 'The newest channels that can be had are past their date: the publisher no longer renews them, or somebody holds newer ones back. Installed models go on.',
    hint: 'check the clock of this machine; then ask another mirror, or the publisher (freehold channel renew)',
  },
  CHANNEL_ROLLBACK: {
    exit: 4,
    http: 500,
    doc: 'Somebody offers older channels than were seen before, or an older version than the installed one.',
    hint: 'a mirror may be out of date: ask another one',
  },
  ARCHIVE_INVALID: {
    exit: 4,
    http: 500,
    doc: 'A wheel or archive is malformed, or has not the member it should have.',
    hint: 'fetch it again',
  },
  FEED_EXPIRED: {
    exit: 4,
    http: 500,
    doc: 'A catalog feed that was fetched is past its date: its publisher no longer renews it, or somebody holds newer issues back. The entries that are known stay.',
    hint: 'check the clock of this machine; then ask the publisher of the feed',
  },
  FEED_ROLLBACK: {
    exit: 4,
    http: 500,
    doc: 'Somebody offers an older issue of a catalog feed than was seen before, or another one under the same number. The entries that are known stay.',
    hint: 'the server may be out of date: try again later, or ask the publisher of the feed',
  },
  // -- network (exit 6)
  AUTHENTICATION_FAILED: {
    exit: 6,
    http: 502,
    doc: 'A server wants a login, or does not accept the one that it got; for Hugging Face also a licence that must be accepted on its page.',
    hint: 'the message names the server; logins come from the configuration of docker (docker login HOST) and from HF_TOKEN',
  },
  NETWORK: {
    exit: 6,
    http: 502,
    temporary: true,
    doc: 'A server could not be reached or answered with an error.',
    hint: 'check connection and proxy; what was fetched is kept and continued',
  },
  SOURCES_EXHAUSTED: {
    exit: 6,
    http: 502,
    temporary: true,
    doc: 'No source gave the bytes with the wanted digest; each failure is listed.',
    hint: 'add a source of your own to mirrors.yaml',
  },
  // -- busy or resources (exit 7)
  BUSY: {
    exit: 7,
    http: 503,
    temporary: true,
    doc: 'Another process works on the same thing, the queue is full or too slow, or models at work hold the memory.',
    hint: 'try again in a moment',
  },
  DISK_FULL: {
    exit: 7,
    http: 507,
    doc: 'The disk has no room; what was begun has been cleaned up.',
    hint: 'freehold gc frees what nothing refers to',
  },
  PERMISSION_DENIED: {
    exit: 7,
    http: 500,
    doc: 'The operating system refuses access to a file or folder.',
    hint: 'check owner and mode of the path, or set FREEHOLD_HOME',
  },
  OUT_OF_MEMORY: {
    exit: 7,
    http: 503,
    doc: 'The model does not fit into the memory or the budget; the message has the numbers.',
    hint: 'a smaller --context, a smaller variant, or a larger --memory',
  },
  PORT_IN_USE: {
    exit: 7,
    http: 500,
    doc: 'Another program listens on the address already.',
    hint: 'choose another with --listen 127.0.0.1:PORT',
  },
  PLATFORM_UNSUPPORTED: {
    exit: 7,
    http: 500,
    doc: 'This machine lacks something that the engine needs.',
    hint: 'freehold doctor names what is missing',
  },
  SANDBOX_UNAVAILABLE: {
    exit: 7,
    http: 500,
    doc: '--require-sandbox was given and the kernel does not offer what it needs.',
    hint: 'freehold doctor says which part; without --require-sandbox it runs with less isolation',
  },
  ENGINE_FAILED: {
    exit: 7,
    http: 500,
    doc: 'The inference engine refused the model or the request.',
    hint: 'freehold doctor; freehold verify NAME',
  },
  ENGINE_LOST: {
    exit: 7,
    http: 503,
    temporary: true,
    doc: 'The engine process ended while it was working; the next request starts a new one.',
    hint: 'try again',
  },
  CANCELLED: {
    exit: 130,
    http: 499,
    doc: 'The caller gave up before the answer was complete.',
    hint: 'nothing to do',
  },
  TIMEOUT: {
    exit: 7,
    http: 504,
    temporary: true,
    doc: 'Something took longer than its limit.',
    hint: 'try again',
  },
  // -- HTTP only
  HOST_REFUSED: {
    exit: 2,
    http: 403,
    doc: 'The Host header of a request names a host that is not allowed (protection against DNS rebinding).',
    hint: 'call http://127.0.0.1:PORT or http://localhost:PORT, or allow the name with --allow-host',
  },
  ORIGIN_REFUSED: {
    exit: 2,
    http: 403,
    doc: 'A web page of another origin called the server.',
    hint: 'call the server from a program, not from a web page',
  },
  ROUTE_NOT_FOUND: {
    exit: 3,
    http: 404,
    doc: 'The server has no such path or method.',
    hint: 'see the list of paths in docs/API.md',
  },
  METHOD_NOT_ALLOWED: {
    exit: 2,
    http: 405,
    doc: 'The server has this path, but not with this method; the allow header names those it has.',
    hint: 'see the list of paths in docs/API.md',
  },
  MEDIA_TYPE_REFUSED: {
    exit: 2,
    http: 415,
    doc: 'The body of a request is not declared as application/json (a web page of another origin may send other types unasked), or is compressed.',
    hint: "send the header content-type: application/json; with curl: -H 'content-type: application/json'",
  },
  BODY_TOO_LARGE: {
    exit: 2,
    http: 413,
    doc: 'The body of a request is larger than the limit.',
    hint: 'send less',
  },
  // -- ours
  INTERNAL: {
    exit: 70,
    http: 500,
    doc: 'A bug in Freehold.',
    hint: 'please report it, with the output of freehold doctor',
  },
});

export type ErrorCode = keyof typeof ERROR_TABLE;
