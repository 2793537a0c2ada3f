/** The traces in bench/traces: what real programs wrote. Discards are left out, since not every peer records them. */
import { readdir, readFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gunzipSync } from "node:zlib";
import { collect, type Trace, type Write } from "./trace.ts";

const FOLDER = fileURLToPath(new URL("../traces", import.meta.url));
const SUFFIX = ".trace.gz";
const SECTOR = 512;
/** The disk that was traced. */
const VOLUME_BYTES = 24e9;
/** Time ran slower by this where the traces were taken. */
const SLOWNESS = 10;

/** Reads the lines of a trace as bench/traces/README.md describes them. */
export function* parse(text: string): Generator<Write> {
  let beforeUs = 0;
  for (const line of text.split("\n")) {
    const [time, kind, sector, sectors] = line.split(" ");
    if (kind !== "W") continue;
    const timeUs = Number(time) / SLOWNESS;
    const pauseUs = Math.max(0, timeUs - beforeUs);
    beforeUs = Math.max(beforeUs, timeUs);
    yield { offsetBytes: Number(sector) * SECTOR, lengthBytes: Number(sectors) * SECTOR, pauseUs };
  }
}

export async function realTraces(): Promise<Trace[]> {
  const files = (await readdir(FOLDER)).filter((file) => file.endsWith(SUFFIX)).sort();
  return await Promise.all(
    files.map(async (file) => {
      const text = gunzipSync(await readFile(join(FOLDER, file))).toString("latin1");
      return collect(basename(file, SUFFIX), VOLUME_BYTES, parse(text));
    }),
  );
}
