/** npm run bench -- [NAME...] [--json] [options of the benchmark]: the side-by-side benchmarks. */
import { parseArgs } from "node:util";
import { bulk, type BulkOptions } from "./bulk.ts";
import { copyLoad, type CopyLoadOptions } from "./copy-load.ts";
import { copy, type CopyOptions } from "./copy.ts";
import { drbd, type DrbdOptions } from "./drbd.ts";
import { driver, type DriverOptions } from "./driver.ts";
import { mirror, type MirrorOptions } from "./mirror.ts";
import { path } from "./path.ts";
import { qemu, type QemuOptions } from "./qemu.ts";
import { record, type RecordBenchOptions } from "./record.ts";
import { recording, type RecordingOptions } from "./recording.ts";
import { snapshotMap } from "./snapshot-map.ts";
import { snapshotTake } from "./snapshot-take.ts";
import { snapshot, type SnapshotOptions } from "./snapshot.ts";

const BENCHMARKS = {
  bulk,
  copy,
  "copy-load": copyLoad,
  drbd,
  driver,
  mirror,
  path,
  qemu,
  record,
  recording,
  snapshot,
  "snapshot-map": snapshotMap,
  "snapshot-take": snapshotTake,
} as const;

const USAGE = `Usage: npm run bench -- [${Object.keys(BENCHMARKS).join("|")}]... [OPTION]...
  --json              print the result as JSON
of bulk, copy, copy-load, drbd, driver, mirror, qemu, recording and snapshot:
  --kernel 6.12|7.2   the guest's kernel (default: 6.12)
of bulk, copy-load, driver, mirror, qemu, recording and snapshot:
  --rounds N          rounds, of which the medians are taken (default: 3)
of driver, mirror and recording:
  --load TEXT         only loads with TEXT in their name, such as "q1" or "128k"
of driver:
  --requests N        requests over which the resident memory is watched (default: 200000; 0: none)
  --null-only         only the null targets
of drbd:
  --writes N          how many writes of each trace are replayed (default: 20000)
of mirror and snapshot:
  --slow-disk         on a disk (of mirror: one each side) slower than the processor, as an SSD is to one that is not emulated
of record:
  --frontier FILE     draw updates against what must be copied, as SVG
`;

function fail(message: string): never {
  process.stderr.write(`bench: ${message}\n${USAGE}`);
  process.exit(2);
}

function wholeNumber(option: string, text: string, least: number): number {
  const value = Number(text);
  return Number.isSafeInteger(value) && value >= least ? value : fail(`--${option}: no number from ${least}: ${text}`);
}

type Options = BulkOptions &
  CopyLoadOptions &
  CopyOptions &
  DrbdOptions &
  DriverOptions &
  MirrorOptions &
  QemuOptions &
  RecordingOptions &
  RecordBenchOptions &
  SnapshotOptions & { json: boolean };

function readCommandLine(): {
  values: Options;
  names: string[];
} {
  try {
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      options: {
        json: { type: "boolean", default: false },
        kernel: { type: "string", default: "6.12" },
        rounds: { type: "string", default: "3" },
        requests: { type: "string", default: "200000" },
        writes: { type: "string", default: "20000" },
        load: { type: "string", default: "" },
        "null-only": { type: "boolean", default: false },
        frontier: { type: "string", default: "" },
        "slow-disk": { type: "boolean", default: false },
      },
    });
    return {
      names: positionals,
      values: {
        json: values.json,
        kernel: values.kernel,
        rounds: wholeNumber("rounds", values.rounds, 1),
        requests: wholeNumber("requests", values.requests, 0),
        writes: wholeNumber("writes", values.writes, 1),
        load: values.load,
        nullOnly: values["null-only"],
        frontier: values.frontier,
        slowDisk: values["slow-disk"],
      },
    };
  } catch (error) {
    return fail(error instanceof Error ? error.message : String(error));
  }
}

const { values, names } = readCommandLine();
const wanted = names.length > 0 ? names : Object.keys(BENCHMARKS);
for (const name of wanted) if (!Object.hasOwn(BENCHMARKS, name)) fail(`there is no benchmark "${name}"`);
for (const name of wanted) {
  const { result, text } = await BENCHMARKS[name as keyof typeof BENCHMARKS](values);
  process.stdout.write(values.json ? `${JSON.stringify(result, null, 2)}\n` : `${text}\n`);
}
