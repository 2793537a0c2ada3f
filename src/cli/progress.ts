/** How far long work is: a bar on a terminal, a plain line for each tenth elsewhere. */
import { SingleBar } from "cli-progress";
import { formatSize } from "../control/sizes.ts";

const TENTHS = 10;

export class Progress implements Disposable {
  readonly #isWanted: boolean;
  #bar: SingleBar | undefined;
  #told = "";

  /** Shows nothing unless `isWanted`. */
  constructor(isWanted: boolean) {
    this.#isWanted = isWanted;
  }

  /** `what` is said beside it. */
  show(doneBytes: number, totalBytes: number, what: string): void {
    if (!this.#isWanted) return;
    if (process.stderr.isTTY) this.#draw(doneBytes, totalBytes, what);
    else this.#tell(doneBytes, totalBytes, what);
  }

  #draw(doneBytes: number, totalBytes: number, what: string): void {
    if (this.#bar === undefined) {
      this.#bar = new SingleBar({
        format: "{bar} {percentage} %, {done} of {all}, {what}, {eta_formatted} left",
        stream: process.stderr,
        hideCursor: true,
      });
      this.#bar.start(totalBytes, doneBytes, { what, done: "", all: "" });
    }
    this.#bar.update(doneBytes, { what, done: formatSize(doneBytes), all: formatSize(totalBytes) });
  }

  #tell(doneBytes: number, totalBytes: number, what: string): void {
    const tenth = totalBytes === 0 ? TENTHS : Math.floor((doneBytes * TENTHS) / totalBytes);
    const line = `${tenth * TENTHS} %, ${what}`;
    if (line === this.#told) return;
    this.#told = line;
    process.stderr.write(`${line}: ${formatSize(doneBytes)} of ${formatSize(totalBytes)}\n`);
  }

  [Symbol.dispose](): void {
    this.#bar?.stop();
  }
}

/** To be told how many of the bytes are done; the bar goes with the last of them. */
export function progressOf(what: string, totalBytes: number): (doneBytes: number) => void {
  const progress = new Progress(true);
  return (doneBytes) => {
    progress.show(doneBytes, totalBytes, what);
    if (doneBytes >= totalBytes) progress[Symbol.dispose]();
  };
}
