/** How far something is, in one line that is written over itself, where somebody looks at a terminal. */
import { formatSize } from "../control/sizes.ts";

/** To be told how many of the bytes are done; the line ends with the last of them. */
export function progressLine(what: string, totalBytes: number): (bytes: number) => void {
  let told = -1;
  return (bytes) => {
    const percent = totalBytes === 0 ? 100 : Math.floor((bytes / totalBytes) * 100);
    if (!process.stderr.isTTY || percent === told) return;
    told = percent;
    const end = bytes === totalBytes ? "\n" : "";
    process.stderr.write(`\r${what}: ${percent} %, ${formatSize(bytes)} of ${formatSize(totalBytes)}\x1b[K${end}`);
  };
}
