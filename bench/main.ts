/** npm run bench -- [NAME...] [--json] [--kernel 6.12|7.2] [--rounds N]: the side-by-side benchmarks. */
import { parseArgs } from "node:util";
import { driver } from "./driver.ts";

const BENCHMARKS = { driver } as const;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    json: { type: "boolean", default: false },
    kernel: { type: "string", default: "6.12" },
    rounds: { type: "string", default: "3" },
  },
});

const names = positionals.length > 0 ? positionals : Object.keys(BENCHMARKS);
for (const name of names) {
  if (!Object.hasOwn(BENCHMARKS, name)) {
    process.stderr.write(`bench: there is no "${name}", only ${Object.keys(BENCHMARKS).join(", ")}\n`);
    process.exit(2);
  }
}
for (const name of names) {
  const { result, text } = await BENCHMARKS[name as keyof typeof BENCHMARKS]({
    kernel: values.kernel,
    rounds: Number(values.rounds),
  });
  process.stdout.write(values.json ? `${JSON.stringify(result, null, 2)}\n` : `${text}\n`);
}
