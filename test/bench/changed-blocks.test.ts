/** Memory for what has changed since a snapshot: counted in a process of its own, so no other test counts with it. */
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import test from "ava";
import type { ChangedBlocks } from "../../bench/native/changed-blocks.ts";

const SCRIPT = fileURLToPath(new URL("../../bench/native/changed-blocks.ts", import.meta.url));
/** 200 MiB for 100 GiB in blocks of 64 KiB would be 128. */
const BYTES_PER_BLOCK_MOST = 32;

async function measure(blocks: number): Promise<ChangedBlocks> {
  const { stdout } = await promisify(execFile)(process.execPath, ["--expose-gc", SCRIPT, String(blocks)]);
  return JSON.parse(stdout) as ChangedBlocks;
}

test("a snapshot of 16 TiB takes memory for what has changed, and as much for each block", async (t) => {
  const [few, many] = [await measure(4096), await measure(40_960)];
  const bytes = ({ opened, after }: ChangedBlocks): number => after.buffersBytes - opened.buffersBytes;
  const perBlock = (bytes(many) - bytes(few)) / (many.changed - few.changed);
  t.true(perBlock <= BYTES_PER_BLOCK_MOST, `${perBlock} bytes a block`);
});
