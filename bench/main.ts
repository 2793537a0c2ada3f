/** npm run bench -- [NAME...] [--json] [options of the benchmark]: the side-by-side benchmarks. */
import { parseArgs } from "node:util";
import { copy, type CopyOptions } from "./copy.ts";
import { drbd, type DrbdOptions } from "./drbd.ts";
import { driver, type DriverOptions } from "./driver.ts";
import { path } from "./path.ts";
import { record, type RecordBenchOptions } from "./record.ts";
import { recording, type RecordingOptions } from "./recording.ts";
import { snapshot, type SnapshotOptions } from "./snapshot.ts";

const BENCHMARKS = { copy, drbd, driver, path, record, recording, snapshot } as const;

const USAGE = `Usage: npm run bench -- [${Object.keys(BENCHMARKS).join("|")}]... [OPTION]...
  --json              print the result as JSON
of copy, drbd, driver, recording and snapshot:
  --kernel 6.12|7.2   the guest's kernel (default: 6.12)
of driver, recording and snapshot:
  --rounds N          rounds, of which the medians are taken (default: 3)
of driver and recording:
  --load TEXT         only loads with TEXT in their name, such as "q1" or "128k"
of driver:
  --requests N        requests over which the resident memory is watched (default: 200000; 0: none)
  --null-only         only the null targets
of drbd:
  --writes N          how many writes of each trace are replayed (default: 20000)
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

type Options = CopyOptions &
  DrbdOptions &
  DriverOptions &
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
