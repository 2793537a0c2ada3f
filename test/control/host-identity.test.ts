/** The identity of a host, and the file of those that it knows: what is kept, and what is refused. */
import { createPrivateKey, createPublicKey, generateKeyPairSync, X509Certificate } from "node:crypto";
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";
import test from "ava";
import * as z from "zod";
import { hasIdentity, type HostIdentity, hostIdentity, replaceIdentity } from "../../src/control/host-identity.ts";
import { forgetPeer, parsePeers, readPeers, trustPeer } from "../../src/control/peers.ts";
import { selfSigned } from "../../src/control/self-signed.ts";
import { openTransport } from "../../src/control/transport-config.ts";
import { transportConflictsOf, transportShape } from "../../src/control/transport-shape.ts";
import { fingerprintOf, isFingerprint, isSameFingerprint } from "../../src/replication/fingerprint.ts";
import { clearTransport, type Transport } from "../../src/replication/transport.ts";
import type { UblkError } from "../../src/ublk/errors.ts";
import { certified, type Holder } from "../replication/certificates.ts";

const OTHER = "SHA256:u0Iu0gMnFHPS6Y2yuIzvPAwCsdrUt5zG5vTTBIb7mE0";
const THIRD = "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
/** The first key of RFC 8032, which everybody knows, and the SHA-256 of the certificate of "web1" around it. */
const KNOWN_KEY = "302e020100300506032b6570042204209d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
const KNOWN_CERTIFICATE =
  "37:71:B6:CA:F8:6E:3B:1E:BD:01:B9:30:0A:E9:5D:11:C6:52:14:07:CA:76:75:64:B1:ED:4B:0C:C3:31:87:94";
const CLEAR = z.strictObject(transportShape).parse({ transport: "clear" });
const TLS = z.strictObject(transportShape).parse({});
let state = "";

// The place of the identity belongs to the process: one test at a time.
test.serial.beforeEach(async () => {
  state = await mkdtemp(join(tmpdir(), "sluice-"));
  process.env["SLUICE_STATE_DIR"] = state;
});
test.serial.afterEach.always(() => rm(state, { recursive: true }));

test.serial("a fingerprint is what ssh-keygen would print of the key's SubjectPublicKeyInfo, for ever", (t) => {
  // The first key of RFC 8032, and its SHA-256 as "openssl dgst" gives it.
  const spki = "302a300506032b6570032100d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
  const known = createPublicKey({ key: Buffer.from(spki, "hex"), type: "spki", format: "der" });
  t.is(fingerprintOf(known), "SHA256:BuP9j9opu2CrWVV95h7bCuzbIxE0vjDnW0Vfjht5L6k");
  const key = generateKeyPairSync("ed25519");
  t.is(fingerprintOf(key.privateKey), fingerprintOf(key.publicKey));
  t.true(isFingerprint(fingerprintOf(key.publicKey)));
  t.true(isSameFingerprint(OTHER, OTHER));
  t.false(isSameFingerprint(OTHER, THIRD));
  t.false(isSameFingerprint(OTHER, OTHER.slice(0, -1)));
  for (const wrong of ["", "SHA256:", OTHER.slice(0, -1), `${OTHER}=`, OTHER.slice(7), `${THIRD.slice(0, -1)}B`]) {
    t.false(isFingerprint(wrong), wrong);
  }
});

test.serial("a certificate is of its key, for ever, and the same whenever it is made", (t) => {
  const { privateKey, publicKey } = generateKeyPairSync("ed25519");
  const text = selfSigned(privateKey, "web1");
  t.is(selfSigned(privateKey, "web1"), text);
  const certificate = new X509Certificate(text);
  t.true(certificate.checkPrivateKey(privateKey));
  t.true(certificate.verify(publicKey));
  t.is(certificate.subjectAltName, "DNS:web1");
  const known = createPrivateKey({ key: Buffer.from(KNOWN_KEY, "hex"), format: "der", type: "pkcs8" });
  t.is(new X509Certificate(selfSigned(known, "web1")).fingerprint256, KNOWN_CERTIFICATE);
  t.is(certificate.validFrom, "Jan  1 00:00:00 2020 GMT");
  t.is(certificate.validTo, "Dec 31 23:59:59 9999 GMT");
  t.is(fingerprintOf(certificate.publicKey), fingerprintOf(privateKey));
});

test.serial("several that ask first get one identity, and leave nothing beside it", async (t) => {
  t.false(hasIdentity());
  const asking: Promise<HostIdentity>[] = [];
  // One begins in each turn of the loop, so that the first ones are through before the last ones have a key to place.
  for (let turn = 0; turn < 20; turn++) {
    asking.push(hostIdentity());
    await nextTurn();
  }
  const found = await Promise.all(asking);
  t.is(new Set(found.map(({ fingerprint }) => fingerprint)).size, 1);
  t.true(hasIdentity());
  t.deepEqual((await readdir(`${state}/identity`)).toSorted(), ["certificate.pem", "key.pem"]);
});

test.serial("a certificate that is missing, damaged or of another key is made again from the key", async (t) => {
  const { fingerprint, certificate } = await hostIdentity();
  const file = `${state}/identity/certificate.pem`;
  for (const text of ["", "no certificate", certified("other").certificate]) {
    await writeFile(file, text);
    const again = await hostIdentity();
    t.is(again.fingerprint, fingerprint);
    t.is(again.certificate, certificate);
    t.is(await readFile(file, "utf8"), certificate);
  }
  await rm(file);
  t.is((await hostIdentity()).certificate, certificate);
  t.not((await replaceIdentity()).fingerprint, fingerprint);
});

test.serial("a key that is damaged or of another kind is refused, and not replaced", async (t) => {
  await mkdir(`${state}/identity`);
  const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey.export({ type: "pkcs8", format: "pem" });
  for (const text of ["", "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n", rsa]) {
    await writeFile(`${state}/identity/key.pem`, text, { mode: 0o600 });
    const error = await t.throwsAsync<UblkError>(hostIdentity());
    t.is(error.code, "EIDENTITY");
    t.regex(error.message, /key\.pem is no Ed25519 key: .*sluice identity new --force$/);
    t.is(await readFile(`${state}/identity/key.pem`, "utf8"), text);
  }
});

test.serial(
  "a line of peers that is wrong is told with its number, all of them at once, and the file is refused",
  (t) => {
    const text = [
      "# known hosts",
      `backup ${OTHER}`,
      "",
      "backup",
      `UPPER ${THIRD}`,
      `backup ${THIRD}`,
      `other ${OTHER} # the same`,
      "third md5:00",
      `a b ${THIRD}`,
    ].join("\n");
    const error = t.throws<UblkError>(() => parsePeers(text, "/peers"));
    t.is(error.code, "EPEERS");
    const lines = error.message.split("\n");
    t.deepEqual(
      lines.map((line) => /^\/peers: line (\d+): /.exec(line)?.[1]),
      ["4", "5", "6", "7", "8", "9"],
    );
    t.deepEqual(parsePeers(`\n#\n\t backup\t${OTHER} # it\r\n`, "/peers"), [{ name: "backup", fingerprint: OTHER }]);
  },
);

test.serial("trusting adds a line and forgetting takes it away; comments and all other lines stay", async (t) => {
  const file = `${state}/identity/peers`;
  t.deepEqual(readPeers(), []);
  await trustPeer({ name: "backup", fingerprint: OTHER });
  const theirs = `# mine\n\n  third   ${THIRD}  # by telephone`;
  await writeFile(file, `backup ${OTHER}\n${theirs}`);
  await trustPeer({ name: "backup", fingerprint: OTHER });
  await forgetPeer("backup");
  t.is(await readFile(file, "utf8"), theirs);
  await trustPeer({ name: "backup", fingerprint: OTHER });
  t.is(await readFile(file, "utf8"), `${theirs}\nbackup ${OTHER}\n`);
  await t.throwsAsync(forgetPeer("nobody"), { message: 'no key of "nobody" is known here' });
});

test.serial("what is no pin, or stands against one, is refused, and nothing is changed", async (t) => {
  await trustPeer({ name: "backup", fingerprint: OTHER });
  for (const [name, fingerprint, message] of [
    ["backup", THIRD, /backup has a key already, SHA256:u0I\S+: sluice identity forget backup/],
    ["other", OTHER, /is known as backup: a key has one name/],
    ["Other", THIRD, /"Other" is no name of a host/],
    ["third", "SHA256:short", /is no fingerprint: wanted SHA256: and 43 characters/],
  ] as const) {
    await t.throwsAsync(trustPeer({ name, fingerprint }), { message });
  }
  t.is(await readFile(`${state}/identity/peers`, "utf8"), `backup ${OTHER}\n`);
});

test.serial("a key that others may read is refused", async (t) => {
  await hostIdentity();
  for (const mode of [0o640, 0o604, 0o620]) {
    await chmod(`${state}/identity/key.pem`, mode);
    const error = await t.throwsAsync<UblkError>(hostIdentity());
    t.is(error.code, "EMODE");
    t.regex(error.message, /key\.pem may be read by others \(mode 06..\): wanted 0600, by chmod 600 \/\S+$/);
  }
});

test.serial("a file of peers that others may change is refused", async (t) => {
  await trustPeer({ name: "backup", fingerprint: OTHER });
  t.is(readPeers().length, 1);
  await chmod(`${state}/identity/peers`, 0o644);
  t.is(readPeers().length, 1);
  for (const mode of [0o660, 0o602]) {
    await chmod(`${state}/identity/peers`, mode);
    t.throws(() => readPeers(), { message: /peers may be changed by others \(mode 06[06][02]\)/ });
  }
});

test.serial("the transport is TLS unless clear is said, and an authority needs all of its keys", (t) => {
  t.is(TLS.transport, "tls");
  const keys = (table: Record<string, unknown>): string[] => transportConflictsOf(table).map(({ key }) => key);
  t.deepEqual(keys({}), []);
  t.deepEqual(keys({ ca: "/ca.pem" }), ["certificate", "key"]);
  t.deepEqual(keys({ ca: "/ca.pem", certificate: "/c.pem", key: "/k.pem" }), []);
  t.deepEqual(keys({ transport: "clear" }), []);
  t.deepEqual(keys({ transport: "clear", key: "/k.pem" }), ["key"]);
  const { error } = z.strictObject(transportShape).safeParse({ transport: "none", ca: "ca.pem" });
  t.deepEqual(
    error?.issues.map(({ message }) => message),
    ['wanted "tls" or "clear"', "wanted an absolute path"],
  );
});

/** Whom the receiver of a connection finds there. */
async function peerOver(receiver: Transport, source: Transport): Promise<string | null> {
  const { promise, resolve, reject } = Promise.withResolvers<string | null>();
  const server = await receiver.listen(
    { host: "127.0.0.1", port: 0 },
    (stream, peer) => {
      stream.on("error", () => undefined).resume();
      resolve(peer);
    },
    reject,
  );
  try {
    const { port } = server.address() as AddressInfo;
    const stream = await source.connect({ host: "127.0.0.1", port }, new AbortController().signal);
    stream.destroy();
    return await promise;
  } finally {
    server.close();
  }
}

test.serial("transports of tables find each other: clear, by pins, and by an authority", async (t) => {
  t.is(await openTransport(CLEAR, null), clearTransport);
  t.is(await peerOver(clearTransport, await openTransport(CLEAR, ["backup"])), null);
  const { fingerprint } = await hostIdentity();
  await trustPeer({ name: "itself", fingerprint });
  t.is(await peerOver(await openTransport(TLS, null), await openTransport(TLS, ["itself"])), "itself");

  const authority = certified("ours", { isAuthority: true });
  const tableOf = async ({ name, certificate, key }: Holder, mode = 0o600): Promise<typeof TLS> => {
    const file = (what: string): string => `${state}/${name}.${what}`;
    await writeFile(file("ca"), authority.certificate);
    await writeFile(file("cert"), certificate);
    await writeFile(file("key"), key.export({ type: "pkcs8", format: "pem" }));
    await chmod(file("key"), mode);
    return { transport: "tls", ca: file("ca"), certificate: file("cert"), key: file("key") };
  };
  const web = await tableOf(certified("web.example", { issuer: authority }));
  const backup = await tableOf(certified("backup.example", { issuer: authority }));
  const receiver = await openTransport(backup, ["web.example"]);
  t.is(await peerOver(receiver, await openTransport(web, ["backup.example"])), "web.example");
  await t.throwsAsync(openTransport(web, null), { message: /wanted the names of the hosts/ });
  const open = await tableOf(certified("open.example", { issuer: authority }), 0o644);
  await t.throwsAsync(openTransport(open, ["web.example"]), { message: /may be read by others/ });
  await writeFile(web.key ?? "", "no key");
  await t.throwsAsync(openTransport(web, ["backup.example"]), { message: /is no key, or one with a pass phrase/ });
});
