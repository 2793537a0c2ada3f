/** TLS between source and receiver: who gets a stream, and what either side is told where nobody does. */
import { once } from "node:events";
import { connect as connectTcp, createServer as createTcpServer, type AddressInfo, type Server } from "node:net";
import type { Duplex } from "node:stream";
import { connect as connectTls, createServer as createTlsServer, TLSSocket } from "node:tls";
import test, { type ExecutionContext } from "ava";
import { Connection } from "../../src/replication/connection.ts";
import { fingerprintOf } from "../../src/replication/fingerprint.ts";
import { type TlsIdentity, tlsTransport } from "../../src/replication/tls-transport.ts";
import { clearTransport, type Peer, type Transport } from "../../src/replication/transport.ts";
import { authorityTrust, type Pin, pinTrust, type Trust } from "../../src/replication/trust.ts";
import type { UblkError } from "../../src/ublk/errors.ts";
import { certified, type Holder } from "./certificates.ts";

const never = new AbortController().signal;
const HOST = "127.0.0.1";

function identityOf({ name, key, certificate }: Holder, trust: Trust): TlsIdentity {
  const text = key.export({ type: "pkcs8", format: "pem" });
  return { name, fingerprint: fingerprintOf(key), certificate, key: text, trust };
}

function pinOf({ name, key }: Holder): Pin {
  return { name, fingerprint: fingerprintOf(key) };
}

function pinned(holder: Holder, others: readonly Holder[], names: readonly string[] | null): TlsIdentity {
  return identityOf(
    holder,
    pinTrust(() => others.map(pinOf), names),
  );
}

interface Listening {
  readonly port: number;
  readonly server: Server;
  /** The next connection, or what was refused instead. */
  readonly next: () => Promise<{ stream: Duplex; peer: Peer } | { error: Error; from: string }>;
}

async function listen(t: ExecutionContext, transport: Transport): Promise<Listening> {
  type Came = Awaited<ReturnType<Listening["next"]>>;
  const came: Came[] = [];
  const waiting: ((event: Came) => void)[] = [];
  const give = (event: Came): void => {
    const taker = waiting.shift();
    if (taker === undefined) came.push(event);
    else taker(event);
  };
  const server = await transport.listen(
    { host: HOST, port: 0 },
    (stream, peer) => {
      give({ stream, peer });
    },
    (error, from) => {
      give({ error, from });
    },
  );
  const sockets = new Set<Duplex>();
  server.on("connection", (socket: Duplex) => sockets.add(socket));
  t.teardown(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  return {
    server,
    port: (server.address() as AddressInfo).port,
    next: () =>
      new Promise((resolve) => {
        const event = came.shift();
        if (event === undefined) waiting.push(resolve);
        else resolve(event);
      }),
  };
}

async function accepted({ next }: Listening): Promise<{ stream: Duplex; peer: Peer }> {
  const event = await next();
  if ("error" in event) throw event.error;
  return event;
}

async function refused(t: ExecutionContext, { next }: Listening): Promise<Error & { code?: string }> {
  const event = await next();
  if (!("error" in event)) throw new Error(`${String(event.peer)} was taken`);
  t.regex(event.from, /^127\.0\.0\.1:\d+$/);
  t.notRegex(event.error.message, /\n/);
  return event.error;
}

async function connect(t: ExecutionContext, transport: Transport, port: number): Promise<Duplex> {
  const stream = await transport.connect({ host: HOST, port }, never);
  t.teardown(() => stream.destroy());
  return stream;
}

async function failing(t: ExecutionContext, transport: Transport, port: number): Promise<UblkError> {
  const error = await t.throwsAsync<UblkError>(connect(t, transport, port));
  t.true(error.message.startsWith(`${HOST}:${port}: `), error.message);
  t.notRegex(error.message, /\n|PRIVATE|node:|openssl/);
  return error;
}

/** Where a server of another kind listens. */
async function portOf(t: ExecutionContext, server: Server): Promise<number> {
  const sockets = new Set<Duplex>();
  server.on("connection", (socket: Duplex) => {
    sockets.add(socket);
    socket.on("error", () => undefined);
  });
  await new Promise<void>((resolve) => server.listen(0, HOST, resolve));
  t.teardown(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  return (server.address() as AddressInfo).port;
}

/** All that comes until its end. */
async function readAll(stream: Duplex): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const piece of stream) pieces.push(piece as Buffer);
  return Buffer.concat(pieces);
}

const web1 = certified("web1");
const backup = certified("backup");

test("both pinned: each knows the other, and some MiB arrive whole, both ways", async (t) => {
  const listening = await listen(t, tlsTransport(pinned(backup, [certified("web0"), web1], null)));
  const source = await connect(t, tlsTransport(pinned(web1, [backup], ["backup"])), listening.port);
  const { stream, peer } = await accepted(listening);
  t.is(peer, "web1");
  const sent = Buffer.alloc(5 * 2 ** 20 + 17, "a stream of bytes in their order");
  source.end(sent);
  stream.end(sent.subarray(7));
  const [there, here] = await Promise.all([readAll(stream), readAll(source)]);
  t.true(there.equals(sent));
  t.true(here.equals(sent.subarray(7)));
});

test("nothing of the first frames is lost, and what the receiver says ahead of them is not seen", async (t) => {
  const listening = await listen(t, tlsTransport(pinned(backup, [web1], ["web1"])));
  const transport = tlsTransport(pinned(web1, [backup], ["backup"]));
  const [source, { stream }] = await Promise.all([connect(t, transport, listening.port), accepted(listening)]);
  stream.write("first");
  const [piece] = (await once(source, "data")) as [Buffer];
  t.is(piece.toString(), "first");
  if (!(source instanceof TLSSocket)) throw new Error("the stream is no socket of TLS");
  t.is(source.getProtocol(), "TLSv1.3");
  t.is(source.alpnProtocol, "sluice/1");
});

test("a source that is not known is refused, and both sides say how to trust it", async (t) => {
  const stranger = certified("stranger");
  const { fingerprint } = pinOf(stranger);
  const listening = await listen(t, tlsTransport(pinned(backup, [web1], null)));
  const error = await failing(t, tlsTransport(pinned(stranger, [backup], ["backup"])), listening.port);
  t.is(error.code, "EPEER");
  t.true(error.message.includes(`does not know this host: there run sluice identity trust stranger ${fingerprint}`));
  const there = await refused(t, listening);
  t.is(there.code, "EPEER");
  t.true(there.message.includes(`sluice identity trust NAME ${fingerprint}`), there.message);
});

test("a pinned host that the configuration does not name is refused on both sides", async (t) => {
  const other = certified("other");
  const listening = await listen(t, tlsTransport(pinned(backup, [web1, other], ["web1"])));
  const error = await failing(t, tlsTransport(pinned(other, [backup], ["backup"])), listening.port);
  t.is(error.code, "EPEER");
  t.is((await refused(t, listening)).message, "it is other, wanted web1, as the configuration says");
  const wrong = await failing(t, tlsTransport(pinned(web1, [other, backup], ["other"])), listening.port);
  t.regex(wrong.message, /it is backup, wanted other/);
});

test("a receiver whose key has changed is refused, with both fingerprints and what to do", async (t) => {
  const listening = await listen(t, tlsTransport(pinned(certified("backup"), [web1], null)));
  const impostor = await connect(t, tlsTransport(pinned(web1, [], null)), listening.port).catch(
    (error: unknown) => error as UblkError,
  );
  const found = /SHA256:\S+/.exec((impostor as UblkError).message)?.[0] ?? "";
  const error = await failing(t, tlsTransport(pinned(web1, [backup], ["backup"])), listening.port);
  t.is(error.code, "EPEER");
  t.true(error.message.includes(`wanted ${pinOf(backup).fingerprint}, found ${found}.`), error.message);
  t.true(
    error.message.endsWith(`sluice identity forget backup && sluice identity trust backup ${found}`),
    error.message,
  );
  t.not(found, pinOf(backup).fingerprint);
});

test("a receiver that is not pinned is refused, with the line that pins it", async (t) => {
  const listening = await listen(t, tlsTransport(pinned(backup, [web1], null)));
  const error = await failing(t, tlsTransport(pinned(web1, [], ["backup"])), listening.port);
  t.true(error.message.endsWith(`sluice identity trust backup ${pinOf(backup).fingerprint}`), error.message);
});

test("a pin that is made, or taken away, counts from the next connection on", async (t) => {
  let pins: Pin[] = [];
  const identity = identityOf(
    backup,
    pinTrust(() => pins, null),
  );
  const listening = await listen(t, tlsTransport(identity));
  const transport = tlsTransport(pinned(web1, [backup], ["backup"]));
  await failing(t, transport, listening.port);
  await refused(t, listening);
  pins = [{ ...pinOf(web1), name: "web" }];
  await connect(t, transport, listening.port);
  t.is((await accepted(listening)).peer, "web");
  pins = [];
  await failing(t, transport, listening.port);
});

test("TLS 1.2 is refused, by receiver and source, and both sides say so", async (t) => {
  const listening = await listen(t, tlsTransport(pinned(backup, [web1], null)));
  const { key, certificate } = identityOf(web1, authorityTrust("", []));
  const old = { key, cert: certificate, maxVersion: "TLSv1.2", rejectUnauthorized: false } as const;
  const socket = connectTls({ port: listening.port, host: HOST, ALPNProtocols: ["sluice/1"], ...old });
  const [error] = (await once(socket, "error")) as [Error & { code: string }];
  t.is(error.code, "ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION");
  const there = await refused(t, listening);
  t.is(there.code, "ETLS");
  t.regex(there.message, /no TLS 1\.3/);
  const server = createTlsServer(old);
  server.on("tlsClientError", () => undefined);
  const port = await portOf(t, server);
  t.regex((await failing(t, tlsTransport(pinned(web1, [backup], ["backup"])), port)).message, /no TLS 1\.3/);
});

test("a source in clear and a receiver with TLS: both say that the transports may differ", async (t) => {
  const listening = await listen(t, tlsTransport(pinned(backup, [web1], null)));
  const clear = await connect(t, clearTransport, listening.port);
  const ended = new Promise<Error | undefined>((resolve) => {
    const connection = new Connection(clear, 10_000, { onFrame: () => undefined, onEnd: resolve });
    connection.send(1, Buffer.from("HELLO"));
  });
  const there = await refused(t, listening);
  t.is(there.code, "ETLS");
  t.regex(there.message, /it speaks no TLS: both sides have to name the same transport/);
  t.regex(
    (await ended)?.message ?? "",
    /closed the connection without a word: both sides have to name the same transport/,
  );
});

test("a source with TLS and a receiver in clear: both say that the transports differ", async (t) => {
  const listening = await listen(t, clearTransport);
  const failed = failing(t, tlsTransport(pinned(web1, [backup], ["backup"])), listening.port);
  const { stream } = await accepted(listening);
  const ended = new Promise<Error | undefined>((resolve) => {
    new Connection(stream, 10_000, { onFrame: () => undefined, onEnd: resolve });
  });
  t.regex((await ended)?.message ?? "", /the other side speaks TLS, and this one transport = "clear"/);
  const error = await failed;
  t.is(error.code, "ETLS");
  t.regex(error.message, /it speaks no TLS/);
});

test("who says nothing is given up, on both sides", async (t) => {
  const listening = await listen(t, tlsTransport(pinned(backup, [web1], null), 50));
  const silent = connectTcp(listening.port, HOST);
  t.teardown(() => silent.destroy());
  silent.resume();
  t.regex((await refused(t, listening)).message, /did not get through the handshake in time/);
  await once(silent, "close");
  const port = await portOf(t, createTcpServer());
  const error = await failing(t, tlsTransport(pinned(web1, [backup], ["backup"]), 50), port);
  t.is(error.code, "ETLS");
  t.regex(error.message, /did not get through the handshake within 0\.05 s/);
});

test("a receiver that never says whether it knows the source is given up", async (t) => {
  const { key, certificate } = identityOf(backup, authorityTrust("", []));
  const options = { key, cert: certificate, ALPNProtocols: ["sluice/1"] };
  const port = await portOf(t, createTlsServer(options));
  const transport = tlsTransport(pinned(web1, [backup], ["backup"]), 200);
  t.regex((await failing(t, transport, port)).message, /did not get through the handshake/);
  const closing = await portOf(
    t,
    createTlsServer(options, (socket) => socket.end()),
  );
  t.regex((await failing(t, transport, closing)).message, /before it said whether it knows this host/);
  const odd = await portOf(
    t,
    createTlsServer(options, (socket) => socket.write("?")),
  );
  t.regex((await failing(t, transport, odd)).message, /it is no sluice/);
});

test("who shows no certificate, or speaks of something else, is refused", async (t) => {
  const listening = await listen(t, tlsTransport(pinned(backup, [web1], null)));
  const { key, certificate } = identityOf(web1, authorityTrust("", []));
  const at = { port: listening.port, host: HOST, rejectUnauthorized: false };
  const bare = connectTls({ ...at, ALPNProtocols: ["sluice/1"] });
  bare.on("error", () => undefined);
  t.regex((await refused(t, listening)).message, /shows no certificate/);
  const other = connectTls({ ...at, cert: certificate, key, ALPNProtocols: ["h2"] });
  other.on("error", () => undefined);
  t.regex((await refused(t, listening)).message, /no sluice/);
  const none = connectTls({ ...at, cert: certificate, key });
  none.on("error", () => undefined);
  t.regex((await refused(t, listening)).message, /no sluice/);
  const server = createTlsServer({ key, cert: certificate });
  const port = await portOf(t, server);
  t.regex((await failing(t, tlsTransport(pinned(web1, [web1], ["web1"])), port)).message, /no sluice/);
});

test("a certificate without its key is of no use", async (t) => {
  const listening = await listen(t, tlsTransport(pinned(backup, [web1], null)));
  const { certificate } = web1;
  const { key } = identityOf(certified("thief"), authorityTrust("", []));
  t.throws(() => connectTls({ port: listening.port, host: HOST, cert: certificate, key }));
  const error = t.throws<UblkError>(() => tlsTransport({ ...pinned(web1, [], null), key }));
  t.is(error.code, "EIDENTITY");
  t.notRegex(error.message, /PRIVATE|\n/);
});

test("sessions are not resumed", async (t) => {
  const listening = await listen(t, tlsTransport(pinned(backup, [web1], null)));
  const { key, certificate } = identityOf(web1, authorityTrust("", []));
  const options = { key, cert: certificate, ALPNProtocols: ["sluice/1"], rejectUnauthorized: false };
  const first = connectTls({ port: listening.port, host: HOST, ...options });
  const sessions: Buffer[] = [];
  first.on("session", (session: Buffer) => sessions.push(session));
  await once(first, "data");
  await accepted(listening);
  first.destroy();
  for (const session of sessions) {
    const again = connectTls({ port: listening.port, host: HOST, ...options, session });
    await once(again, "data");
    t.false(again.isSessionReused());
    await accepted(listening);
    again.destroy();
  }
  t.pass();
});

test("a pin does not expire, whatever the certificate says", async (t) => {
  const old = certified("web1", { expiredYears: 3 });
  const early = certified("backup", { expiredYears: -3 });
  const listening = await listen(t, tlsTransport(pinned(early, [old], null)));
  await connect(t, tlsTransport(pinned(old, [early], ["backup"])), listening.port);
  t.is((await accepted(listening)).peer, "web1");
});

const authority = certified("an authority", { isAuthority: true });
const signedWeb = certified("web1.example", { issuer: authority });
const signedBackup = certified("backup.example", { issuer: authority });

function signed(holder: Holder, names: readonly string[], by = authority): TlsIdentity {
  return identityOf(holder, authorityTrust(by.certificate, names));
}

test("with an authority: a signed certificate of a name that is wanted is taken, any other name is refused", async (t) => {
  const listening = await listen(t, tlsTransport(signed(signedBackup, ["web0.example", "web1.example"])));
  await connect(t, tlsTransport(signed(signedWeb, ["backup.example"])), listening.port);
  t.is((await accepted(listening)).peer, "web1.example");
  const elsewhere = await failing(t, tlsTransport(signed(signedWeb, ["other.example"])), listening.port);
  t.regex(elsewhere.message, /wanted one for other\.example, found DNS:backup\.example/);
  // The source went when it saw the certificate: before the receiver was through, or just after it.
  await listening.next();
  const web2 = certified("web2.example", { issuer: authority });
  const error = await failing(t, tlsTransport(signed(web2, ["backup.example"])), listening.port);
  t.regex(error.message, /refuses this host's certificate: its log says why/);
  t.regex(
    (await refused(t, listening)).message,
    /wanted one for web0\.example or web1\.example, found DNS:web2\.example/,
  );
});

test("with an authority: a certificate for all names of a domain is no name", async (t) => {
  const wild = certified("*.example", { issuer: authority });
  const listening = await listen(t, tlsTransport(signed(signedBackup, ["web1.example"])));
  await failing(t, tlsTransport(signed(wild, ["backup.example"])), listening.port);
  t.regex((await refused(t, listening)).message, /found DNS:\*\.example/);
});

test("with an authority: self-signed, of another authority, expired, or not valid yet is refused", async (t) => {
  const listening = await listen(t, tlsTransport(signed(signedBackup, ["web1.example"])));
  const other = certified("an authority", { isAuthority: true });
  for (const [holder, said] of [
    [certified("web1.example"), /not signed by the authority/],
    [certified("web1.example", { issuer: other }), /not signed by the authority/],
    [certified("web1.example", { issuer: signedWeb }), /not signed by the authority/],
    [certified("web1.example", { issuer: authority, expiredYears: 2 }), /has expired/],
    [certified("web1.example", { issuer: authority, expiredYears: -2 }), /not valid yet/],
  ] as const) {
    const error = await failing(t, tlsTransport(signed(holder, ["backup.example"])), listening.port);
    t.is(error.code, "EPEER", error.message);
    t.regex((await refused(t, listening)).message, said);
    const turned = await listen(t, tlsTransport(signed(holder, ["web1.example"])));
    t.regex((await failing(t, tlsTransport(signed(signedWeb, ["web1.example"])), turned.port)).message, said);
  }
});

test("an authority's file without a certificate is refused: there are no public authorities in its place", (t) => {
  for (const text of ["no certificate", ""]) {
    const error = t.throws<UblkError>(() => tlsTransport(identityOf(web1, authorityTrust(text, ["backup"]))));
    t.is(error.code, "EIDENTITY");
  }
});

test("an attempt is ended by its signal, before and within", async (t) => {
  const port = await portOf(t, createTcpServer());
  const transport = tlsTransport(pinned(web1, [backup], ["backup"]));
  const reason = new Error("no more");
  await t.throwsAsync(transport.connect({ host: HOST, port }, AbortSignal.abort(reason)), { is: reason });
  const controller = new AbortController();
  const attempt = transport.connect({ host: HOST, port }, controller.signal);
  controller.abort(reason);
  await t.throwsAsync(attempt, { is: reason });
});

test("nobody there: the system's words, with the address", async (t) => {
  const server = createTcpServer();
  const port = await portOf(t, server);
  await new Promise((resolve) => server.close(resolve));
  const error = await failing(t, tlsTransport(pinned(web1, [backup], ["backup"])), port);
  t.is(error.code, "ECONNREFUSED");
});
