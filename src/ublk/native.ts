/**
 * The addon, loaded once and checked: a build whose structures differ from the tables in abi.ts is refused, so that no
 * byte is ever read from the wrong place.
 */
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import { COMPILED } from "./abi.ts";
import { messageOf, UblkError } from "./errors.ts";

/** Numbers that stand for addresses are exact: user space on x86-64 and arm64 ends below 2^48. */
export type Address = number;

export interface BlockDeviceGeometry {
  readonly sizeBytes: number;
  readonly logicalBlockBytes: number;
  readonly physicalBlockBytes: number;
  readonly readOnly: boolean;
}

/** What the addon exports. Every function throws an Error with `errno`, `code` and `syscall` when its call fails. */
export interface Native {
  readonly abi: Readonly<Record<string, number>>;
  createEnter(block: Address): () => void;
  ringSetup(entries: number, params: Uint8Array): number;
  ringRegister(fd: number, opcode: number, argument: Uint8Array | Int32Array | null, count: number): number;
  map(
    fd: number,
    offset: number,
    length: number,
    protection: number,
    flags: number,
  ): { address: Address; buffer: ArrayBuffer };
  unmap(address: Address, buffer: ArrayBuffer): void;
  view(address: Address, length: number): ArrayBuffer;
  lockMemory(address: Address, length: number): void;
  syncMemory(address: Address, length: number): void;
  persist(address: Address, length: number): void;
  blockDevice(fd: number): BlockDeviceGeometry;
  setIoFlusher(): void;
  setAffinity(mask: Uint8Array): void;
  dropCapability(capability: number): void;
  eventDescriptor(): number;
  lockFile(fd: number): boolean;
  canAllocate(fd: number, offset: number, mode: number): boolean;
  sendDatagram(path: string, text: string): void;
}

/** Beside the sources; beside the compiled package ublk-ts; and in a tree, for what is bundled into its dist/. */
const PLACES = [
  "./native/build/Release/ublk.node",
  "../native/build/Release/ublk.node",
  "../src/ublk/native/build/Release/ublk.node",
];

function load(): Native {
  const require = createRequire(import.meta.url);
  const paths = PLACES.map((place) => fileURLToPath(new URL(place, import.meta.url)));
  const path = paths.find((candidate) => existsSync(candidate));
  if (path === undefined) {
    throw new UblkError(
      "ENOADDON",
      `Cannot find the native addon: looked at ${paths.join(" and ")}; run npm run build`,
    );
  }
  let native: Native;
  try {
    native = require(path) as Native;
  } catch (cause) {
    throw new UblkError("EADDON", `Cannot load the native addon ${path}: ${messageOf(cause)}; run npm run build`, {
      cause,
    });
  }
  checkAbi(native.abi, path);
  return native;
}

/** Refuses a build whose compiler saw other structures than abi.ts describes. Exported for its test. */
export function checkAbi(compiled: Readonly<Record<string, number>>, path: string): void {
  for (const [name, wanted] of Object.entries(COMPILED)) {
    if (compiled[name] !== wanted) {
      throw new UblkError(
        "EABI",
        `The native addon ${path} does not fit: ${name} is ${String(compiled[name])} in it, wanted ${wanted}; build it anew`,
      );
    }
  }
}

export const native: Native = load();
