/** The metrics: text that Prometheus can read, with the numbers of the volume, each described in docs/metrics.md. */
import { readFile } from "node:fs/promises";
import test from "ava";
import { metricsText } from "../../src/control/metrics.ts";
import type { CopyRow } from "../../src/control/copy-status.ts";
import { sampleCopy, sampleStatus } from "./sample.ts";

interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

/** Reads the text format, and refuses what is not of it. */
function parse(text: string): { samples: Sample[]; types: Map<string, string>; described: Set<string> } {
  const samples: Sample[] = [];
  const types = new Map<string, string>();
  const described = new Set<string>();
  for (const line of text.split("\n")) {
    if (line === "") continue;
    const comment = /^# (HELP|TYPE) (\S+) (.+)$/.exec(line);
    if (comment !== null) {
      const [, kind, name = "", rest = ""] = comment;
      if (kind === "HELP") described.add(name);
      else types.set(name, rest);
      continue;
    }
    const found = /^([a-z_]+)\{((?:[a-z_]+="[^"\\]*",?)*)\} (\S+)$/.exec(line);
    if (found === null) throw new Error(`no line of the text format: ${line}`);
    const [, name = "", labels = "", value = ""] = found;
    const pairs = [...labels.matchAll(/([a-z_]+)="([^"]*)"/g)].map(([, key = "", word = ""]) => [key, word] as const);
    samples.push({ name, labels: Object.fromEntries(pairs), value: Number(value) });
  }
  return { samples, types, described };
}

async function measure(name: string, labels: Record<string, string> = {}): Promise<number | undefined> {
  const { samples } = parse(await metricsText(sampleStatus()));
  return samples.find(
    (sample) => sample.name === name && Object.entries(labels).every(([key, value]) => sample.labels[key] === value),
  )?.value;
}

test("each metric has its help, its type, its volume and a number", async (t) => {
  const { samples, types, described } = parse(await metricsText(sampleStatus()));
  t.true(samples.length > 30);
  for (const { name, labels, value } of samples) {
    t.true(described.has(name), name);
    t.is(types.get(name), name.endsWith("_total") ? "counter" : "gauge", name);
    t.is(labels["volume"], "data");
    t.true(Number.isFinite(value), name);
  }
});

test("the numbers are those of the volume, in base units", async (t) => {
  const write = { operation: "write" };
  t.is(await measure("sluice_requests_total", write), 100);
  t.is(await measure("sluice_bytes_total", write), 409_600);
  t.is(await measure("sluice_errors_total", { operation: "read" }), 1);
  t.is(await measure("sluice_bytes_total", { operation: "read" }), 0);
  t.is(await measure("sluice_request_seconds_total", { operation: "read" }), 1);
  const median = (await measure("sluice_request_latency_seconds", { ...write, quantile: "0.5" })) ?? 0;
  t.true(median >= 50e-6 && median < 54e-6, `${median} s`);
  t.is(await measure("sluice_request_latency_seconds", { operation: "flush" }), undefined);
  t.is(await measure("sluice_size_bytes"), 2 ** 30);
  t.is(await measure("sluice_start_time_seconds"), Date.parse("2026-01-02T03:04:05.678Z") / 1000);
  t.is(await measure("sluice_recovered"), 1);
  t.is(await measure("sluice_mirror_lag_bytes"), 12_288);
  t.is(await measure("sluice_mirror_lag_seconds"), 0.5);
  t.is(await measure("sluice_mirror_lag_points"), 1);
});

test("copy jobs: each by its name and state, but no more of them than the newest", async (t) => {
  const copy = "copy-1";
  t.is(await measure("sluice_copy_copied_bytes", { copy }), 2 ** 20);
  t.is(await measure("sluice_copy_left_bytes", { copy }), 2 ** 20);
  t.is(await measure("sluice_copy_rate_bytes_per_second", { copy }), 2 ** 20);
  t.is(await measure("sluice_copy_state", { copy, state: "running" }), 1);
  t.is(await measure("sluice_copy_state", { copy, state: "failed" }), 0);
  const night = (day: number): CopyRow => ({
    ...sampleCopy,
    name: `night-${day}`,
    state: "complete",
    created: new Date(Date.UTC(2026, 0, day)).toISOString(),
    rateBytesPerSecond: null,
  });
  const copies = [...Array.from({ length: 100 }, (_, index) => night(index + 1)), { ...sampleCopy, created: "2027" }];
  const { samples } = parse(await metricsText(sampleStatus({ copies })));
  const of = (name: string): Sample[] => samples.filter((sample) => sample.name === name);
  t.is(of("sluice_copy_jobs").find(({ labels }) => labels["state"] === "complete")?.value, 100);
  t.deepEqual(
    of("sluice_copy_copied_bytes").map(({ labels }) => labels["copy"]),
    [copy, ...Array.from({ length: 15 }, (_, index) => `night-${100 - index}`)],
  );
  t.is(of("sluice_copy_rate_bytes_per_second").at(-1)?.value, 0, "nothing is copied by one that is complete");
});

test("a volume without a store has no metrics of copies", async (t) => {
  t.notRegex(await metricsText(sampleStatus({ copies: null })), /sluice_copy/);
});

test("two looks do not add up", async (t) => {
  t.is(await metricsText(sampleStatus()), await metricsText(sampleStatus()));
});

test("a metric is described in docs/metrics.md if and only if it exists", async (t) => {
  const { described } = parse(await metricsText(sampleStatus()));
  const text = await readFile(new URL("../../docs/metrics.md", import.meta.url), "utf8");
  const documented = [...text.matchAll(/^\| `(sluice_[a-z_]+)`/gm)].map((match) => match[1]);
  t.deepEqual(documented.toSorted(), [...described].toSorted());
});
