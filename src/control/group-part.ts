/**
 * A volume's part in a snapshot of several volumes at one instant: prepare, hold, take, finish, each asked for from outside.
 *
 * All volumes are held back before any takes its snapshot. So a write that was acknowledged on one volume before another
 * write was begun elsewhere is never missing where the later one is shown.
 *
 * Invariants. A snapshot is taken only while the volume has been held back without a break. Whoever asks may die at any
 * moment: a step that is not followed by the next in time is followed by finish, and the ticket is worth nothing then.
 */
import { randomUUID } from "node:crypto";
import { messageOf, UblkError } from "../ublk/errors.ts";
import { log } from "./log.ts";

/** How long the host may be made to wait. */
const HELD_MS = 10_000;
/** How long other volumes may take to prepare. */
const PREPARED_MS = 90_000;

/** What is done to the volume. */
export interface GroupSteps<Row> {
  /** Throws where the snapshot cannot be: then nothing is left to be finished. */
  prepare(name: string): Promise<void>;
  holdBack(): Promise<void>;
  /** Its instant is when it is called, not when it resolves. */
  take(name: string): Promise<Row>;
  letGo(): Promise<void>;
  /** What was prepared is undone, whatever came of it. */
  finish(): Promise<void>;
}

/** Calls `action` after a while, unless what is returned is called before. */
export type StartTimer = (ms: number, action: () => void) => () => void;

interface Part {
  readonly ticket: string;
  readonly name: string;
  state: "prepared" | "held" | "finishing";
  cancelDeadline: () => void;
}

export class GroupPart<Row> {
  readonly #volume: string;
  readonly #steps: GroupSteps<Row>;
  readonly #startTimer: StartTimer;
  #part: Part | undefined;

  constructor(volume: string, steps: GroupSteps<Row>, startTimer: StartTimer) {
    this.#volume = volume;
    this.#steps = steps;
    this.#startTimer = startTimer;
  }

  /** Throws EBUSY while there is a part that has not been finished. */
  assertNone(): void {
    if (this.#part === undefined) return;
    throw new UblkError(
      "EBUSY",
      `Snapshot "${this.#part.name}" of volume ${this.#volume} and others is being taken: try again when that is done`,
    );
  }

  /** Gives the ticket for the next steps. Asked for once at a time. Throws EBUSY, and as the step does. */
  async prepare(name: string): Promise<string> {
    this.assertNone();
    await this.#steps.prepare(name);
    const part: Part = { ticket: randomUUID(), name, state: "prepared", cancelDeadline: () => undefined };
    this.#part = part;
    this.#limit(part, PREPARED_MS);
    return part.ticket;
  }

  #limit(part: Part, ms: number): void {
    part.cancelDeadline();
    part.cancelDeadline = this.#startTimer(ms, () => {
      log("warning", `Snapshot ${part.name}: nothing was asked for ${ms / 1000} s; the volume goes on without it`);
      this.finish(part.ticket).catch((error: unknown) => log("error", messageOf(error)));
    });
  }

  #find(ticket: string, state: Part["state"]): Part {
    const part = this.#part;
    if (part?.ticket === ticket && part.state === state) return part;
    throw new UblkError("EEXPIRED", `Volume ${this.#volume} was not asked to go on in time, and has gone on without`);
  }

  /** Overwrites and flushes wait from now on, for ten seconds at most. Throws EEXPIRED. */
  async hold(ticket: string): Promise<void> {
    const part = this.#find(ticket, "prepared");
    part.state = "held";
    this.#limit(part, HELD_MS);
    await this.#steps.holdBack();
  }

  /** Takes the snapshot. Throws EEXPIRED where the volume is not held back any more. */
  async take(ticket: string): Promise<Row> {
    // Nothing may come between this look and the take: the deadline could.
    return this.#steps.take(this.#find(ticket, "held").name);
  }

  /** Lets the volume go on; nothing happens where it does already. */
  async finish(ticket: string): Promise<void> {
    const part = this.#part;
    if (part?.ticket !== ticket || part.state === "finishing") return;
    const isHeld = part.state === "held";
    part.state = "finishing";
    part.cancelDeadline();
    try {
      if (isHeld) await this.#steps.letGo();
    } finally {
      await this.#steps.finish().finally(() => (this.#part = undefined));
    }
  }
}
