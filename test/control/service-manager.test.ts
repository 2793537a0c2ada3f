/** sd_notify(3), down to the bytes, which a socket of another program receives. */
import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import test, { type ExecutionContext } from "ava";
import { notifyManager, watchdogIntervalMs } from "../../src/control/service-manager.ts";

/** Node.js has no datagram sockets of this kind; perl is part of every Debian. "@" stands for the abstract name space. */
const RECEIVER = String.raw`
  use Socket; $| = 1;
  my $name = $ARGV[0]; $name =~ s/^@/\0/;
  socket(my $socket, AF_UNIX, SOCK_DGRAM, 0) or die $!;
  bind($socket, pack_sockaddr_un($name)) or die $!;
  print "bound\n";
  while (defined recv($socket, my $text, 65536, 0)) { print unpack("H*", $text), "\n"; }
`;

/** What arrives at the socket `name`, datagram by datagram. */
async function receiver(t: ExecutionContext, name: string): Promise<AsyncIterator<string>> {
  const child = spawn("perl", ["-e", RECEIVER, name], { stdio: ["ignore", "pipe", "inherit"] });
  t.teardown(() => child.kill());
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  t.is((await lines.next()).value, "bound");
  return {
    next: async () => {
      const { value } = await lines.next();
      return { value: Buffer.from(value ?? "", "hex").toString("utf8") };
    },
  };
}

function withSocket(t: ExecutionContext, name: string): void {
  process.env["NOTIFY_SOCKET"] = name;
  t.teardown(() => delete process.env["NOTIFY_SOCKET"]);
}

test.serial("one datagram for each call, a line for each assignment", async (t) => {
  const directory = await mkdtemp(join(tmpdir(), "sluice-"));
  t.teardown(() => rm(directory, { recursive: true }));
  const received = await receiver(t, `${directory}/notify`);
  withSocket(t, `${directory}/notify`);
  notifyManager("READY=1", "STATUS=/dev/ublkb0, 1GiB, größer");
  notifyManager("WATCHDOG=1");
  t.is((await received.next()).value, "READY=1\nSTATUS=/dev/ublkb0, 1GiB, größer");
  t.is((await received.next()).value, "WATCHDOG=1");
});

test.serial("a socket in the abstract name space", async (t) => {
  const name = `@sluice-test-${process.pid}`;
  const received = await receiver(t, name);
  withSocket(t, name);
  notifyManager("STOPPING=1");
  t.is((await received.next()).value, "STOPPING=1");
});

test.serial("nobody to tell, or nobody who listens, is no error", (t) => {
  notifyManager("READY=1");
  withSocket(t, "/nonexistent/notify");
  t.notThrows(() => notifyManager("READY=1"));
});

test.serial("signs of life come twice as often as systemd wants them", (t) => {
  t.teardown(() => delete process.env["WATCHDOG_USEC"]);
  t.is(watchdogIntervalMs(), undefined);
  for (const [text, wanted] of [
    ["120000000", 60_000],
    ["0", undefined],
    ["", undefined],
    ["soon", undefined],
  ] as const) {
    process.env["WATCHDOG_USEC"] = text;
    t.is(watchdogIntervalMs(), wanted, text);
  }
});
