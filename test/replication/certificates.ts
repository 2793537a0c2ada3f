/** Certificates as somebody's own authority would make them, and bad ones. */
import { createPublicKey, generateKeyPairSync, type KeyObject, sign } from "node:crypto";
import { AsnConvert, OctetString } from "@peculiar/asn1-schema";
import {
  AlgorithmIdentifier,
  AttributeTypeAndValue,
  AttributeValue,
  BasicConstraints,
  Certificate,
  Extension,
  Extensions,
  GeneralName,
  id_ce_basicConstraints,
  id_ce_subjectAltName,
  Name,
  RelativeDistinguishedName,
  SubjectAlternativeName,
  SubjectPublicKeyInfo,
  TBSCertificate,
  Validity,
  Version,
} from "@peculiar/asn1-x509";

const YEAR_MS = 365 * 86_400_000;

/** Something with a name and a key that can sign. */
export interface Holder {
  readonly name: string;
  readonly key: KeyObject;
  /** PEM. */
  readonly certificate: string;
}

export interface Wish {
  /** Itself, unless given. */
  readonly issuer?: Holder;
  readonly isAuthority?: boolean;
  /** Ended so many years ago; negative: begins in so many years. */
  readonly expiredYears?: number;
}

let serial = 0;

export function certified(name: string, { issuer, isAuthority = false, expiredYears = 0 }: Wish = {}): Holder {
  const key = generateKeyPairSync("ed25519").privateKey;
  const algorithm = new AlgorithmIdentifier({ algorithm: "1.3.101.112" });
  const middle = Date.now() - (expiredYears === 0 ? 0 : expiredYears + Math.sign(expiredYears)) * YEAR_MS;
  const tbsCertificate = new TBSCertificate({
    version: Version.v3,
    serialNumber: Uint8Array.of(++serial).buffer,
    signature: algorithm,
    issuer: nameOf(issuer?.name ?? name),
    validity: new Validity({ notBefore: new Date(middle - YEAR_MS), notAfter: new Date(middle + YEAR_MS) }),
    subject: nameOf(name),
    subjectPublicKeyInfo: AsnConvert.parse(
      createPublicKey(key).export({ type: "spki", format: "der" }),
      SubjectPublicKeyInfo,
    ),
    extensions: new Extensions([
      new Extension({
        extnID: id_ce_subjectAltName,
        extnValue: octets(new SubjectAlternativeName([new GeneralName({ dNSName: name })])),
      }),
      new Extension({
        extnID: id_ce_basicConstraints,
        critical: true,
        extnValue: octets(new BasicConstraints({ cA: isAuthority })),
      }),
    ]),
  });
  const signature = sign(null, new Uint8Array(AsnConvert.serialize(tbsCertificate)), issuer?.key ?? key);
  const whole = new Certificate({
    tbsCertificate,
    signatureAlgorithm: algorithm,
    signatureValue: new Uint8Array(signature).buffer,
  });
  const text = Buffer.from(AsnConvert.serialize(whole)).toString("base64");
  return { name, key, certificate: `-----BEGIN CERTIFICATE-----\n${text}\n-----END CERTIFICATE-----\n` };
}

function octets(value: unknown): OctetString {
  return new OctetString(AsnConvert.serialize(value));
}

function nameOf(text: string): Name {
  return new Name([
    new RelativeDistinguishedName([
      new AttributeTypeAndValue({ type: "2.5.4.3", value: new AttributeValue({ utf8String: text }) }),
    ]),
  ]);
}
