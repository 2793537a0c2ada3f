/**
 * Memory that a snapshot of a sparse volume of 16 TiB takes for what has changed since: blocks of 64 KiB all over the volume,
 * up to 100 GiB of them. On this machine and without a guest, a process for each number of blocks.
 */
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { saveResult } from "./guest-run.ts";
import { CHANGED_BLOCK_BYTES, type ChangedBlocks } from "./native/changed-blocks.ts";

const SCRIPT = fileURLToPath(new URL("native/changed-blocks.ts", import.meta.url));
const MIB = 2 ** 20;
const GIB = 2 ** 30;
const CHANGED_GIB = [1, 6.25, 12.5, 25, 50, 100] as const;
/** What must be reached, with the last of them. */
const WANTED_MIB = 200;

/** In a fresh process. */
async function measure(changedGib: number): Promise<ChangedBlocks> {
  const words = ["--expose-gc", SCRIPT, String((changedGib * GIB) / CHANGED_BLOCK_BYTES)];
  const { stdout } = await promisify(execFile)(process.execPath, words);
  return JSON.parse(stdout) as ChangedBlocks;
}

export async function snapshotMap(): Promise<{ result: unknown; text: string }> {
  const rows: (ChangedBlocks & { residentMib: number; bytesPerBlock: number; openedMib: number })[] = [];
  for (const changedGib of CHANGED_GIB) {
    const measured = await measure(changedGib);
    const { bare, opened, after, changed } = measured;
    rows.push({
      ...measured,
      residentMib: (after.residentBytes - opened.residentBytes) / MIB,
      bytesPerBlock: (after.buffersBytes - opened.buffersBytes) / changed,
      openedMib: (opened.residentBytes - bare.residentBytes) / MIB,
    });
  }
  const most = rows.at(-1)?.residentMib ?? NaN;
  const result = { rows, wantedMib: WANTED_MIB };
  const saved = await saveResult("snapshot-map", result);
  const text = [
    "A snapshot of a sparse volume of 16 TiB, blocks of 64 KiB; a process for each row, on this machine.",
    "Resident memory beside what the process had when the snapshot was taken, heap and compiled code among it; the map alone by the block.",
    "",
    "changed       blocks  resident  bytes of the map a block",
    ...rows.map(({ changed, residentMib, bytesPerBlock }) =>
      [
        `${((changed * CHANGED_BLOCK_BYTES) / GIB).toFixed(2)} GiB`.padStart(10),
        String(changed).padStart(9),
        `${residentMib.toFixed(1)} MiB`.padStart(10),
        bytesPerBlock.toFixed(1).padStart(8),
      ].join(" "),
    ),
    "",
    `${most <= WANTED_MIB ? "reached" : "NOT REACHED"}: at most ${WANTED_MIB} MiB for ${CHANGED_GIB.at(-1)} GiB of changed blocks (${most.toFixed(1)} MiB)`,
    `Opening it, with the store's tables and all that is kept ready: ${rows.map(({ openedMib }) => openedMib.toFixed(1)).join(", ")} MiB`,
    `Saved as ${saved}`,
  ];
  return { result, text: text.join("\n") };
}
