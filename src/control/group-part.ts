/**
 * A volume's part in what is taken of several volumes at one instant, snapshots or the points of copies: prepare, hold, take,
 * finish, each asked for from outside.
 *
 * All volumes are held back before any takes. So a write that was acknowledged on one volume before another write was begun
 * elsewhere is never missing where the later one is shown.
 *
 * Invariants. It is taken only while the volume has been held back without a break, and counts only when it was asked to be kept.
 * Whoever asks may die at any moment: a step that is not followed by the next in time is undone with all before it, and the
 * ticket is worth nothing then.
 */
import { randomUUID } from "node:crypto";
import { messageOf, UblkError } from "../ublk/errors.ts";
import { log } from "./log.ts";

/** How long the host may be made to wait. */
const HELD_MS = 10_000;
/** How long other volumes may take to prepare; how long it may take to be told whether all have taken. */
const ASKED_MS = 90_000;

/** What is to be taken. */
export interface Taking<Row> {
  /** Such as: Snapshot "monday". */
  readonly what: string;
  /** Throws where it cannot be: then nothing is left to be undone. */
  prepare(): Promise<void>;
  /** Its instant is when it is called, not when it resolves; `createdMs` is what the instant is called everywhere. */
  take(createdMs: number): Promise<Row>;
  /** Once, when the volume has gone on: what was brought to rest for it may go on. */
  goOn(): Promise<void>;
  /** It counts from now on. Throws where it cannot: then it is undone. */
  keep(): Promise<void>;
  /** What was prepared, and taken if it came to that, is no more. */
  undo(): Promise<void>;
}

/** What is done to the volume. */
export interface Holding {
  holdBack(): Promise<void>;
  letGo(): Promise<void>;
}

/** Calls `action` after a while, unless what is returned is called before. */
export type StartTimer = (ms: number, action: () => void) => () => void;

interface Part<Row> {
  readonly ticket: string;
  readonly taking: Taking<Row>;
  readonly holding: Holding;
  state: "preparing" | "prepared" | "held" | "taken" | "finishing";
  isHeldBack: boolean;
  hasGoneOn: boolean;
  /** Resolves when what is being taken has been, or could not be. */
  taken: Promise<unknown>;
  cancelDeadline: () => void;
}

/** What those need who have something to take. */
export type GroupEntry<Row> = Pick<GroupPart<Row>, "assertNone" | "prepare">;

export class GroupPart<Row> {
  readonly #volume: string;
  readonly #holding: Holding;
  readonly #startTimer: StartTimer;
  #part: Part<Row> | undefined;

  constructor(volume: string, holding: Holding, startTimer: StartTimer) {
    this.#volume = volume;
    this.#holding = holding;
    this.#startTimer = startTimer;
  }

  /** Throws EBUSY while there is a part that has not been finished. */
  assertNone(): void {
    if (this.#part === undefined) return;
    throw new UblkError(
      "EBUSY",
      `${this.#part.taking.what} of volume ${this.#volume} and others is being taken: try again when that is done`,
    );
  }

  /** Gives the ticket for the next steps; `holding` is how the volume is held back for it. Throws EBUSY, and as the step does. */
  async prepare(taking: Taking<Row>, holding = this.#holding): Promise<string> {
    this.assertNone();
    const part: Part<Row> = {
      ticket: randomUUID(),
      taking,
      holding,
      state: "preparing",
      isHeldBack: false,
      hasGoneOn: false,
      taken: Promise.resolve(),
      cancelDeadline: () => undefined,
    };
    this.#part = part;
    try {
      await taking.prepare();
    } catch (error) {
      this.#part = undefined;
      throw error;
    }
    part.state = "prepared";
    this.#limit(part, ASKED_MS);
    return part.ticket;
  }

  #limit(part: Part<Row>, ms: number): void {
    part.cancelDeadline();
    part.cancelDeadline = this.#startTimer(ms, () => this.#tooLate(part, ms));
  }

  #tooLate(part: Part<Row>, ms: number): void {
    const told = (error: unknown): void => log("error", messageOf(error));
    if (part.state === "taken" && !part.hasGoneOn) {
      // Its instant is over: only whether it counts is still to be told.
      this.#limit(part, ASKED_MS);
      this.#goOn(part).catch(told);
      return;
    }
    log("warning", `${part.taking.what}: nothing was asked for ${ms / 1000} s; the volume goes on without it`);
    this.finish(part.ticket, false).catch(told);
  }

  async #goOn(part: Part<Row>): Promise<void> {
    if (part.hasGoneOn) return;
    part.hasGoneOn = true;
    try {
      if (part.isHeldBack) await part.holding.letGo();
    } finally {
      await part.taking.goOn();
    }
  }

  #find(ticket: string, state: Part<Row>["state"]): Part<Row> {
    const part = this.#part;
    if (part?.ticket === ticket && part.state === state) return part;
    throw new UblkError("EEXPIRED", `Volume ${this.#volume} was not asked to go on in time, and has gone on without`);
  }

  /** Overwrites and flushes wait from now on, for ten seconds at most. Throws EEXPIRED. */
  async hold(ticket: string): Promise<void> {
    const part = this.#find(ticket, "prepared");
    part.state = "held";
    part.isHeldBack = true;
    this.#limit(part, HELD_MS);
    await part.holding.holdBack();
  }

  /** Takes it. Throws EEXPIRED where the volume is not held back any more. */
  async take(ticket: string, createdMs: number): Promise<Row> {
    // Nothing may come between this look and the take: the deadline could.
    const part = this.#find(ticket, "held");
    part.state = "taken";
    const row = part.taking.take(createdMs);
    part.taken = row.catch(() => undefined);
    return row;
  }

  /**
   * Lets the volume go on, and keeps what was taken, or undoes it all; where that has been done already, nothing happens. Throws
   * EEXPIRED where it was to be kept, and has been undone.
   */
  async finish(ticket: string, keep: boolean): Promise<void> {
    const part = this.#part;
    if (keep) this.#find(ticket, "taken");
    if (part?.ticket !== ticket || part.state === "finishing") return;
    part.state = "finishing";
    part.cancelDeadline();
    await part.taken;
    try {
      await this.#goOn(part);
    } finally {
      await (keep ? part.taking.keep() : part.taking.undo()).finally(() => (this.#part = undefined));
    }
  }
}
