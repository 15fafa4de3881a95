import { z } from 'zod';
import { FreeholdError } from '../base/errors.ts';
import { quoted } from '../base/ids.ts';
import { pathText } from '../base/schema-text.ts';
import { isSignedBy, type PrivateKey, type PublicKey, signBytes } from './keys.ts';

/** A DSSE v1.0 envelope with its one signature, base64 undone. Nothing in it is trusted before `verifyEnvelope`. */
export interface DsseEnvelope {
  /** Media type of the payload; part of what is signed. */
  readonly payloadType: string;
  readonly payload: Uint8Array;
  readonly signature: Uint8Array;
}

/** The envelope as it stands in a JSON document. */
export interface DsseEnvelopeJson {
  readonly payload: string;
  readonly payloadType: string;
  readonly signatures: readonly { readonly sig: string; readonly keyid: string }[];
}

/** A DER signature of the largest key (P-521) has at most 139 bytes. */
const SIGNATURE_BYTES_MAX = 256;

/**
 * `keyid` is not signed and nothing here uses it; OpenSSF Model Signing v1.0 §4.1 wants absent, empty and null
 * accepted. Anything else would be bytes that anybody can exchange, so it is refused.
 */
const envelopeSchema = z.strictObject({
  payload: z.string().min(1),
  payloadType: z.string(),
  signatures: z.array(z.strictObject({ sig: z.string().min(1), keyid: z.literal(['', null]).optional() })),
});

/**
 * What a DSSE signature is over (DSSE v1.0 protocol, "PAE"): the lengths make it impossible to shift bytes between
 * type and payload, and the type keeps a payload of one kind from being presented as another.
 */
export function encodePreAuthentication(payloadType: string, payload: Uint8Array): Buffer {
  const type = Buffer.from(payloadType);
  const head = `DSSEv1 ${type.byteLength} ${payloadType} ${payload.byteLength} `;
  return Buffer.concat([Buffer.from(head), payload]);
}

/** Signs the payload together with its type: `encodePreAuthentication` says over which bytes. */
export function signEnvelope(payloadType: string, payload: Uint8Array, key: PrivateKey): DsseEnvelope {
  return { payloadType, payload, signature: signBytes(key, encodePreAuthentication(payloadType, payload)) };
}

/** The envelope for a JSON document; `keyid` stays empty, since nobody may rely on it. */
export function encodeEnvelope(envelope: DsseEnvelope): DsseEnvelopeJson {
  return {
    payload: encodeBase64(envelope.payload),
    payloadType: envelope.payloadType,
    signatures: [{ sig: encodeBase64(envelope.signature), keyid: '' }],
  };
}

/**
 * Checks the shape of an envelope that came out of a strict JSON reader: exactly one signature, so that there is no
 * question which one counts, and canonical base64, so that one envelope has one spelling.
 * @throws SIGNATURE_MALFORMED, naming `label` and the field
 */
export function parseEnvelope(value: unknown, payloadType: string, label: string): DsseEnvelope {
  const json = parseShape(envelopeSchema, value, label);
  const [signature, ...others] = json.signatures;
  if (signature === undefined || others.length > 0) {
    throw malformed(`${label}: ${json.signatures.length} signatures, exactly one is accepted`);
  }
  if (json.payloadType !== payloadType) {
    throw malformed(
      `${label}: payloadType is ${quoted(json.payloadType)}, it must be ${quoted(payloadType)}`,
    );
  }
  const bytes = decodeBase64(signature.sig, `${label}: signatures[0].sig`);
  if (bytes.byteLength > SIGNATURE_BYTES_MAX) {
    throw malformed(
      `${label}: a signature of ${bytes.byteLength} bytes, at most ${SIGNATURE_BYTES_MAX} make sense`,
    );
  }
  return { payloadType, payload: decodeBase64(json.payload, `${label}: payload`), signature: bytes };
}

/**
 * @returns the payload, which is now known to be what the owner of the key signed under this payload type
 * @throws SIGNATURE_INVALID
 */
export function verifyEnvelope(envelope: DsseEnvelope, key: PublicKey, label: string): Uint8Array {
  const signed = encodePreAuthentication(envelope.payloadType, envelope.payload);
  if (!isSignedBy(key, signed, envelope.signature)) {
    throw new FreeholdError(
      'SIGNATURE_INVALID',
      `${label}: the signature is not one of this key over these bytes`,
      {
        detail: { file: label, fingerprint: key.fingerprint },
      },
    );
  }
  return envelope.payload;
}

const encodeBase64 = (bytes: Uint8Array) => Buffer.from(bytes).toString('base64');

/** RFC 4648 §4 with padding and zero pad bits: Node's decoder alone skips what it does not know. */
function decodeBase64(text: string, label: string): Buffer {
  const bytes = Buffer.from(text, 'base64');
  if (bytes.toString('base64') !== text) throw malformed(`${label} is not canonical base64`);
  return bytes;
}

/** @throws SIGNATURE_MALFORMED with the path of the first misfit */
export function parseShape<Schema extends z.ZodType>(
  schema: Schema,
  value: unknown,
  label: string,
): z.output<Schema> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  throw malformed(`${label}: ${pathText(issue?.path ?? [])}: ${issue?.message ?? 'does not fit its schema'}`);
}

export const malformed = (message: string) => new FreeholdError('SIGNATURE_MALFORMED', message);
