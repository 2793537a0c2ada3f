/**
 * Keeps the points durable: one write at a time, each to the area that does not hold the newest whole catalogue. Whoever asks
 * while one is under way is served by the next, together.
 *
 * Invariant: a catalogue that was torn never becomes whole. Of one that a process died in, the beginning may be there, and the
 * next one, torn as well, may end alike: so the beginning is cleared before anything else is written there.
 */
import { OPCODE, RWF_DSYNC } from "../../ublk/abi.ts";
import { ERRNO } from "../../ublk/errors.ts";
import type { CompletionHandler, Io, IoMemory } from "../../ublk/io.ts";
import { encodeCatalog } from "./catalog.ts";
import type { Layout } from "./layout.ts";
import type { Points } from "./points.ts";
import type { RecoveredStore } from "./recovery.ts";

export class CatalogFile implements CompletionHandler {
  readonly #points: Points;
  readonly #layout: Layout;
  readonly #salt: number;
  readonly #io: Io;
  readonly #file: number;
  readonly #handler: number;
  readonly #memory: IoMemory;
  #sequence: number;
  #isTorn: boolean;
  #isWriting = false;
  /** Who waits for the write that is under way, and for the one after it. */
  #served: ((result: number) => void)[] = [];
  #waiting: ((result: number) => void)[] = [];

  constructor(
    points: Points,
    { catalog, isCatalogTorn }: Pick<RecoveredStore, "catalog" | "isCatalogTorn">,
    layout: Layout,
    salt: number,
    io: Io,
    file: number,
  ) {
    this.#points = points;
    this.#sequence = catalog.sequence;
    this.#isTorn = isCatalogTorn;
    this.#layout = layout;
    this.#salt = salt;
    this.#io = io;
    this.#file = file;
    this.#handler = io.addHandler(this);
    this.#memory = io.memory(layout.geometry.catalogBytes);
  }

  get isBusy(): boolean {
    return this.#isWriting;
  }

  /** `done` is called once: with 0 when the joined points as they are now are durable, or with a negative errno. */
  save(done: (result: number) => void): void {
    this.#waiting.push(done);
    if (!this.#isWriting) this.#write();
  }

  #write(): void {
    const { geometry } = this.#layout;
    this.#isWriting = true;
    if (this.#isTorn) {
      new Uint8Array(this.#memory.buffer, 0, geometry.sectorBytes).fill(0);
      this.#transfer(this.#sequence + 1, geometry.sectorBytes);
      return;
    }
    this.#served = this.#waiting;
    this.#waiting = [];
    const sequence = ++this.#sequence;
    const { joined, lastEpoch } = this.#points;
    const content = { sequence, lastEpoch, points: joined };
    const used = encodeCatalog(new Uint8Array(this.#memory.buffer, 0, geometry.catalogBytes), this.#salt, content);
    this.#transfer(sequence, Math.ceil(used / geometry.sectorBytes) * geometry.sectorBytes);
  }

  #transfer(sequence: number, length: number): void {
    const offset = this.#layout.catalogOffset(sequence % 2);
    this.#io.transfer(OPCODE.WRITE, this.#file, offset, this.#memory.address, length, RWF_DSYNC, this.#handler, length);
  }

  /** `length` is that of the write. */
  completed(length: number, result: number): void {
    if (this.#isTorn) this.#cleared(result === length);
    else this.#written(length, result);
  }

  #cleared(isDone: boolean): void {
    this.#isTorn = !isDone;
    if (isDone) {
      this.#write();
      return;
    }
    this.#isWriting = false;
    for (const done of this.#waiting.splice(0)) done(-ERRNO.EIO);
  }

  #written(length: number, result: number): void {
    this.#isWriting = false;
    // The area may hold anything now: the same one again.
    if (result !== length) this.#sequence--;
    const served = this.#served;
    this.#served = [];
    for (const done of served) done(result === length ? 0 : result < 0 ? result : -ERRNO.EIO);
    if (this.#waiting.length > 0 && !this.isBusy) this.#write();
  }
}
