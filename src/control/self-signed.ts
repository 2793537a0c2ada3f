/**
 * A certificate around a key, signed by the key itself. Node.js can read certificates, and cannot make them.
 *
 * Invariant: it is made from key and name alone, so it is the same whenever it is made. It is valid for ever: what counts is
 * the key, which is pinned, and a date would only break a mirror one day.
 */
import { createHash, createPublicKey, type KeyObject, sign } from "node:crypto";
import { AsnConvert, OctetString } from "@peculiar/asn1-schema";
import {
  AlgorithmIdentifier,
  AttributeTypeAndValue,
  AttributeValue,
  Certificate,
  Extension,
  Extensions,
  GeneralName,
  id_ce_subjectAltName,
  Name,
  RelativeDistinguishedName,
  SubjectAlternativeName,
  SubjectPublicKeyInfo,
  TBSCertificate,
  Validity,
  Version,
} from "@peculiar/asn1-x509";

const ED25519 = "1.3.101.112";
const COMMON_NAME = "2.5.4.3";
const NOT_BEFORE = new Date("2020-01-01T00:00:00Z");
/** What RFC 5280 says for "no end". */
const NOT_AFTER = new Date("9999-12-31T23:59:59Z");
const SERIAL_BYTES = 16;

/** PEM. The key is a private one, Ed25519. */
export function selfSigned(key: KeyObject, name: string): string {
  const publicKey = createPublicKey(key).export({ type: "spki", format: "der" });
  const serialNumber = new Uint8Array(createHash("sha256").update(publicKey).digest().subarray(0, SERIAL_BYTES));
  // A positive number, and none with zeroes in front.
  serialNumber[0] = ((serialNumber[0] ?? 0) & 0x3f) | 0x40;
  const algorithm = new AlgorithmIdentifier({ algorithm: ED25519 });
  const called = new Name([
    new RelativeDistinguishedName([
      new AttributeTypeAndValue({ type: COMMON_NAME, value: new AttributeValue({ utf8String: name }) }),
    ]),
  ]);
  const alternative = new SubjectAlternativeName([new GeneralName({ dNSName: name })]);
  const tbsCertificate = new TBSCertificate({
    version: Version.v3,
    serialNumber: serialNumber.buffer,
    signature: algorithm,
    issuer: called,
    validity: new Validity({ notBefore: NOT_BEFORE, notAfter: NOT_AFTER }),
    subject: called,
    subjectPublicKeyInfo: AsnConvert.parse(publicKey, SubjectPublicKeyInfo),
    extensions: new Extensions([
      new Extension({
        extnID: id_ce_subjectAltName,
        extnValue: new OctetString(AsnConvert.serialize(alternative)),
      }),
    ]),
  });
  const signature = sign(null, new Uint8Array(AsnConvert.serialize(tbsCertificate)), key);
  const certificate = new Certificate({
    tbsCertificate,
    signatureAlgorithm: algorithm,
    signatureValue: new Uint8Array(signature).buffer,
  });
  const lines =
    Buffer.from(AsnConvert.serialize(certificate))
      .toString("base64")
      .match(/.{1,64}/g) ?? [];
  return `-----BEGIN CERTIFICATE-----\n${lines.join("\n")}\n-----END CERTIFICATE-----\n`;
}
