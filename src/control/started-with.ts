/**
 * What a volume was started with, kept for as long as its device lives.
 *
 * Invariant: a daemon that takes a device over serves the store that the device was made over, and no other: whoever uses
 * the device would find another's data under it. And it keeps the record as it was, whose limit the largest requests of the
 * device fit, the store of its snapshots, and whether it has a mirror. So none of them is taken from the configuration then, which may have been edited since, but from here.
 */
import { renameSync, writeFileSync } from "node:fs";
import { readFile, rm } from "node:fs/promises";
import type { BackingSpec } from "../targets/volume.ts";
import { codeOf } from "../ublk/errors.ts";
import { startedWithPath } from "./paths.ts";

export interface StartedWith {
  readonly backing: BackingSpec;
  /** Null for a volume without a record. */
  readonly record: { readonly path: string; readonly limitBytes: number } | null;
  /** Null for a volume without snapshots. */
  readonly snapshots: { readonly path: string } | null;
  /** It had a mirror, whose log the largest requests of the device fit. */
  readonly isMirrored: boolean;
}

/** To be called before the device starts. */
export function remember(name: string, startedWith: StartedWith): void {
  const path = startedWithPath(name);
  writeFileSync(`${path}.new`, `${JSON.stringify(startedWith)}\n`, { mode: 0o600 });
  renameSync(`${path}.new`, path);
}

/** Undefined where nothing is remembered: the device was made by somebody else, or never started. */
export async function recall(name: string): Promise<StartedWith | undefined> {
  try {
    return JSON.parse(await readFile(startedWithPath(name), "utf8")) as StartedWith;
  } catch (error) {
    if (codeOf(error) === "ENOENT") return undefined;
    throw error;
  }
}

export async function forget(name: string): Promise<void> {
  await rm(startedWithPath(name), { force: true });
}

export function sameStore(one: BackingSpec, other: BackingSpec): boolean {
  if (one.kind !== other.kind) return false;
  return !("path" in one) || !("path" in other) || one.path === other.path;
}
