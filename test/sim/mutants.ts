/**
 * npm run mutants [-- NAME...]: breaks the engine on purpose, one fault at a time, and demands that the simulator finds
 * each of them. A fault is an edit of one source file, made in a copy of the tree.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { cp, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const COPIES = join(ROOT, "build/mutants");
const SEEDS = 4000;
const AT_ONCE = 2;

interface Mutant {
  readonly name: string;
  readonly file: string;
  /** Stands in the file exactly once. */
  readonly from: string;
  readonly to: string;
  /** The seed to begin with, where chance needs longer than usual; otherwise the first. */
  readonly firstSeed?: number;
}

const MUTANTS: readonly Mutant[] = [
  {
    name: "data before record",
    file: "src/targets/record.ts",
    from: "if (this.#record.admits(this.#first(request), this.#last(request))) {",
    to: "if (this.#record.admits(this.#first(request), this.#first(request))) {",
  },
  {
    name: "data when the update begins, not when it ends",
    file: "src/nvram/record.ts",
    from: "this.#store.commit(this.#done);",
    to: "this.#store.commit(() => undefined); this.#done(0);",
  },
  {
    name: "failed update taken for a good one",
    file: "src/nvram/record.ts",
    from: "if (result === 0) this.places.settle(chunk);",
    to: "if (result <= 0) this.places.settle(chunk);",
  },
  {
    name: "removal of what is owed",
    file: "src/nvram/places.ts",
    from: "const BUSY = STATE.ADDING | STATE.OWED | STATE.COPYING | STATE.IN_FLIGHT;",
    to: "const BUSY = STATE.ADDING | STATE.COPYING | STATE.IN_FLIGHT;",
  },
  {
    name: "removal while it is copied",
    file: "src/nvram/places.ts",
    from: "const BUSY = STATE.ADDING | STATE.OWED | STATE.COPYING | STATE.IN_FLIGHT;",
    to: "const BUSY = STATE.ADDING | STATE.OWED | STATE.IN_FLIGHT;",
  },
  {
    name: "removal before the store was flushed",
    file: "src/nvram/eviction.ts",
    from: "if (places.isDurable(chunk)) this.#victims",
    to: "if (places.isDurable(chunk) || true) this.#victims",
  },
  {
    name: "flush counts for what was written while it ran",
    file: "src/targets/record.ts",
    from: "if (result === 0) this.#record.places.endFlush(this.#periods[request.slot] as number);",
    to: "if (result === 0) this.#record.places.endFlush(this.#record.places.beginFlush());",
  },
  {
    name: "a clean stop without a flush",
    file: "src/targets/record.ts",
    from: "    this.#startFlush();\n    this.#io.waitUntil",
    to: "    this.#record.places.endFlush(this.#record.places.beginFlush());\n    this.#io.waitUntil",
  },
  {
    name: "a clean stop relies on a flush that began before it",
    file: "src/targets/record.ts",
    from: "    this.#io.waitUntil(() => !this.#flushing);\n    this.#startFlush();",
    to: "    this.#startFlush();",
    firstSeed: 13_000,
  },
  {
    name: "failed flush counts",
    file: "src/targets/record.ts",
    from: "if (result === 0) this.#record.places.endFlush(",
    to: "if (result <= 0) this.#record.places.endFlush(",
  },
  {
    name: "a write during the copy is forgotten",
    file: "src/nvram/places.ts",
    from: "this.states[chunk] = (state & ~STATE.COPYING) | (copied ? 0 : STATE.OWED);",
    to: "this.states[chunk] = (state & ~STATE.COPYING & (copied ? ~STATE.OWED : ~0)) | (copied ? 0 : STATE.OWED);",
  },
  {
    name: "a failed copy counts",
    file: "src/nvram/places.ts",
    from: "(copied ? 0 : STATE.OWED)",
    to: "0",
  },
  {
    name: "copy begins while a write is in flight",
    file: "src/nvram/places.ts",
    from: "if ((state & (STATE.IN_FLIGHT | STATE.COPYING)) !== 0) return false;",
    to: "if ((state & STATE.COPYING) !== 0) return false;",
  },
  {
    name: "what was recorded before the crash is not owed",
    file: "src/nvram/places.ts",
    from: "this.states[chunk] = STATE.RECORDED | STATE.OWED;",
    to: "this.states[chunk] = STATE.RECORDED;",
  },
  {
    name: "what was recorded before the crash counts as flushed",
    file: "src/nvram/places.ts",
    from: "    this.#writtenIn[chunk] = this.#period;\n  }\n\n  /** Out of the record",
    to: "  }\n\n  /** Out of the record",
  },
  {
    name: "missing write-back of a line",
    file: "src/nvram/dax-persistence.ts",
    from: "index += length;",
    to: "index += length + 1;",
  },
  {
    name: "missing write-back and fence",
    file: "src/nvram/dax-persistence.ts",
    from: "this.#persist(first * LINE_BYTES, length * LINE_BYTES);",
    to: "void this.#persist;",
  },
  {
    name: "update of a file without durability",
    file: "src/nvram/file-persistence.ts",
    from: "address, length, RWF_DSYNC,",
    to: "address, length, 0 * RWF_DSYNC,",
  },
  {
    name: "update ends with its first page",
    file: "src/nvram/file-persistence.ts",
    from: "if (--this.#outstanding === 0) this.#done(this.#result);",
    to: "this.#outstanding--; this.#done(this.#result); this.#done = () => undefined;",
  },
  {
    name: "an error of a page is forgotten",
    file: "src/nvram/file-persistence.ts",
    from: "if (result !== length) this.#result =",
    to: "if (result !== length && result >= 0) this.#result =",
  },
  {
    name: "damaged line read as it is",
    file: "src/nvram/record-lines.ts",
    from: "const isWhole = this.isWhole(line);",
    to: "const isWhole = true;",
  },
  {
    name: "damaged line read as empty",
    file: "src/nvram/record-lines.ts",
    from: "if (!isWhole || (byte & (1 << (bit & 7))) !== 0) found(chunk);",
    to: "if (isWhole && (byte & (1 << (bit & 7))) !== 0) found(chunk);",
  },
  {
    name: "damaged line relied upon before it is repaired",
    file: "src/targets/open-record.ts",
    from: "if (damagedLines > 0) record.repair();",
    to: "",
    firstSeed: 44_000,
  },
  {
    name: "only the first chunk of a write",
    file: "src/targets/record.ts",
    from: "= (request.offset + request.length - 1) * this.#chunksPerByte;",
    to: "= request.offset * this.#chunksPerByte;",
  },
  {
    name: "discards and zeroes pass unrecorded",
    file: "src/targets/record.ts",
    from: "if (request.operation === Operation.READ) {",
    to: "if (request.operation !== Operation.WRITE && request.operation !== Operation.FLUSH) {",
  },
  {
    name: "acknowledgement before the flush",
    file: "src/targets/file.ts",
    from: "this.#ring.syncData(this.#file, this.#handler, slot);",
    to: "request.succeed();",
  },
  {
    name: "FUA forgotten",
    file: "src/targets/file.ts",
    from: "const flags = request.fua ? RWF_DSYNC : 0;\n        this.#ring.transfer(\n          OPCODE.WRITE,\n          this.#file,\n          offset + done,\n          request.address",
    to: "const flags = 0 * RWF_DSYNC;\n        this.#ring.transfer(\n          OPCODE.WRITE,\n          this.#file,\n          offset + done,\n          request.address",
  },
  {
    name: "short transfer taken for a whole one",
    file: "src/targets/file.ts",
    from: "if (done === request.length) request.succeed();",
    to: "if (done > 0) request.succeed();",
  },
  {
    name: "rest of a short transfer from the wrong place",
    file: "src/targets/file.ts",
    from: "request.address + done,\n          length - done,\n          flags,",
    to: "request.address,\n          length - done,\n          flags,",
  },
  {
    name: "header over the newest one",
    file: "src/nvram/nvram-file.ts",
    from: "SLOT_OFFSETS[header.sequence % 2]",
    to: "SLOT_OFFSETS[1]",
  },
  {
    name: "header before the region that it names",
    file: "src/nvram/nvram-file.ts",
    from: "  writeLines(storage, region, lines);\n  const regions",
    to: "  const regions",
  },
  {
    name: "what a volume gains is taken for equal",
    file: "src/nvram/nvram-file.ts",
    from: "for (let chunk = from.chunks; chunk < chunks; chunk++) lines.set(chunk, true);",
    to: "for (let chunk = from.chunks; chunk < chunks; chunk++) lines.set(chunk, false);",
  },
];

/** What the simulator said of a mutant; undefined when it found nothing. */
async function hunt(mutant: Mutant): Promise<string | undefined> {
  const copy = join(COPIES, mutant.name.replaceAll(/[^a-z]+/g, "-"));
  await rm(copy, { recursive: true, force: true });
  await mkdir(copy, { recursive: true });
  for (const folder of ["src/ublk", "src/nvram", "src/targets", "test/sim"])
    await cp(join(ROOT, folder), join(copy, folder), {
      recursive: true,
      filter: (path) => !/native\/|node_modules|dist/.test(path),
    });
  await cp(join(ROOT, "package.json"), join(copy, "package.json"));
  const path = join(copy, mutant.file);
  const text = await readFile(path, "utf8");
  if (text.split(mutant.from).length !== 2)
    throw new Error(`${mutant.name}: "${mutant.from}" does not stand once in ${mutant.file}`);
  await writeFile(path, text.replace(mutant.from, mutant.to));
  const range = ["--seeds", String(SEEDS), "--from", String(mutant.firstSeed ?? 1)];
  const child = spawn(process.execPath, [join(copy, "test/sim/soak.ts"), ...range], {
    stdio: ["ignore", "pipe", "ignore"],
  });
  let output = "";
  child.stdout.setEncoding("utf8").on("data", (part: string) => (output += part));
  const [status] = (await once(child, "close")) as [number | null];
  await rm(copy, { recursive: true });
  return status === 0
    ? undefined
    : (/^seed \d+ failed: .*$/m.exec(output)?.[0] ?? `ended with ${String(status)} and no finding`);
}

const names = process.argv.slice(2);
const queue = MUTANTS.filter(({ name }) => names.length === 0 || names.includes(name));
const survivors: string[] = [];
await Promise.all(
  Array.from({ length: AT_ONCE }, async () => {
    for (let mutant = queue.shift(); mutant !== undefined; mutant = queue.shift()) {
      const finding = await hunt(mutant);
      if (finding === undefined || !finding.startsWith("seed")) survivors.push(mutant.name);
      process.stdout.write(
        `${finding === undefined ? "SURVIVED" : "found"}  ${mutant.name}: ${finding ?? `${SEEDS} seeds passed`}\n`,
      );
    }
  }),
);
if (survivors.length > 0) {
  process.stdout.write(`${survivors.length} survived: ${survivors.join("; ")}\n`);
  process.exitCode = 1;
}
