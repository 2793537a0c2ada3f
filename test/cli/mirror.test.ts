/** `sluice mirror verify` as a process, over a volume that is none: what it prints, and how it ends. */
import test, { type ExecutionContext } from "ava";
import { serveApi } from "../../src/control/api.ts";
import type { VerificationStatus } from "../../src/replication/verification.ts";
import { UblkError } from "../../src/ublk/errors.ts";
import { SampleVolume } from "../control/sample.ts";
import { places, type Places } from "./command.ts";

const MIB = 2 ** 20;
const BEGUN: VerificationStatus = {
  ...{ number: 1, state: "comparing", isRepairing: false, sizeBytes: 64 * MIB, doneBytes: 32 * MIB },
  ...{ differentBytes: 0, onTheirWayBytes: 0, unreadBytes: 0, places: [] },
};
const EQUAL: VerificationStatus = { ...BEGUN, state: "done", doneBytes: 64 * MIB };
const DIFFERENT: VerificationStatus = {
  ...{ ...EQUAL, differentBytes: 12_288, onTheirWayBytes: MIB },
  places: [
    { offset: 8192, length: 4096 },
    { offset: 40_960, length: 4096 },
  ],
};

async function scene(t: ExecutionContext): Promise<Places & { readonly volume: SampleVolume }> {
  const found = await places(t);
  const volume = new SampleVolume();
  const server = await serveApi(`${found.runtime}/data.sock`, volume);
  t.teardown(() => server.close());
  return { ...found, volume };
}

async function* told(...statuses: VerificationStatus[]): AsyncGenerator<VerificationStatus> {
  await Promise.resolve();
  yield* statuses;
}

test("what is equal ends with 0, after a line for each tenth", async (t) => {
  const { run, volume } = await scene(t);
  volume.verification = () => told(BEGUN, EQUAL);
  const { status, stdout, stderr } = await run("mirror", "verify", "data");
  t.is(status, 0, stderr);
  t.deepEqual(volume.calls, ["mirror verify false"]);
  t.regex(stderr, /^50 %, comparing: .*\n100 %, done/);
  t.regex(stdout, /^64 ?MiB compared, 0 ?B differ\n$/);
});

test("what differs ends with 1, unless it is repaired", async (t) => {
  const { run, volume } = await scene(t);
  volume.verification = () => told(BEGUN, DIFFERENT);
  const found = await run("mirror", "verify", "data");
  t.is(found.status, 1);
  t.regex(found.stdout, /12 ?KiB differ: not repaired\n1 ?MiB were on their way/);
  t.regex(found.stdout, /differs: 8192\+4096\ndiffers: 40960\+4096\nand more places\n$/);
  volume.verification = () => told({ ...DIFFERENT, isRepairing: true });
  const repaired = await run("mirror", "verify", "data", "--repair", "--json");
  t.is(repaired.status, 0, repaired.stdout);
  t.is(volume.calls.at(-1), "mirror verify true");
  t.is((JSON.parse(repaired.stdout) as VerificationStatus).differentBytes, 12_288);
  volume.verification = () => told({ ...EQUAL, unreadBytes: 4096 });
  t.is((await run("mirror", "verify", "data")).status, 1);
});

test("one that ends before its end has failed", async (t) => {
  const { run, volume } = await scene(t);
  volume.verification = async function* () {
    yield* told(BEGUN);
    throw new UblkError("ELINK", "the link of the mirror has ended");
  };
  const failed = await run("mirror", "verify", "data");
  t.is(failed.status, 1);
  t.regex(failed.stderr, /link of the mirror has ended/);
  volume.verification = () => told(BEGUN);
  const short = await run("mirror", "verify", "data");
  t.is(short.status, 1);
  t.regex(short.stderr, /has not compared all of it/);
});
