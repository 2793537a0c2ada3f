/**
 * What must be true of a volume and its remote, whoever dies and whenever: the oracles of R1, R2, R3 and R5.
 *
 * They share no code with the engine: the record is decoded here anew, from docs/nvram-format.md.
 */
import type { SimDisk } from "./disk.ts";

/** The format of lines, once more. */
const LINE_BYTES = 64;
const BITS_BYTES = 60;
const CHUNKS_PER_LINE = 480;

const CRC_NIBBLES = Uint32Array.from({ length: 16 }, (_, nibble) => {
  let value = nibble;
  for (let bit = 0; bit < 4; bit++) value = (value & 1) !== 0 ? (value >>> 1) ^ 0x82f63b78 : value >>> 1;
  return value;
});

function crcOf(parts: readonly Uint8Array[]): number {
  let crc = 0xffffffff;
  for (const part of parts) {
    for (const byte of part) {
      crc = ((crc >>> 4) ^ (CRC_NIBBLES[(crc ^ byte) & 15] as number)) >>> 0;
      crc = ((crc >>> 4) ^ (CRC_NIBBLES[(crc ^ (byte >> 4)) & 15] as number)) >>> 0;
    }
  }
  return ~crc >>> 0;
}

/** Whether a reader of these bytes takes the chunk for one that may differ. */
export function covers(bytes: Uint8Array, offset: number, salt: number, chunk: number): boolean {
  const line = Math.floor(chunk / CHUNKS_PER_LINE);
  const at = offset + line * LINE_BYTES;
  const bit = chunk % CHUNKS_PER_LINE;
  if (((bytes[at + Math.floor(bit / 8)] as number) & (1 << (bit % 8))) !== 0) return true;
  const prefix = new Uint8Array(Uint32Array.of(salt, line).buffer);
  const crc = crcOf([prefix, bytes.subarray(at, at + BITS_BYTES)]);
  return new DataView(bytes.buffer, bytes.byteOffset + at + BITS_BYTES).getUint32(0, true) !== crc;
}

interface Version {
  /** Number of the request. */
  readonly id: number;
  /** What the sector then shows: the sequence of a write, or 0 for zeroes. */
  readonly sequence: number;
  /** A discard: anything that was there before may be seen as well. */
  readonly isDiscard: boolean;
  acknowledged: boolean;
}

/** Which contents each sector of the volume may show: after a read, a kill, or a power cut. */
export class SectorOracle {
  /** The newest version that surely survives. */
  readonly #floor: Int32Array;
  readonly #later = new Map<number, Version[]>();

  constructor(sectors: number) {
    this.#floor = new Int32Array(sectors);
  }

  #versions(sector: number): Version[] {
    let versions = this.#later.get(sector);
    if (versions === undefined) this.#later.set(sector, (versions = []));
    return versions;
  }

  begin(sector: number, count: number, id: number, sequence: number, isDiscard: boolean): void {
    for (let at = sector; at < sector + count; at++) {
      const versions = this.#versions(at);
      // One that is delivered again after a kill is the same version.
      if (versions.at(-1)?.id === id) continue;
      versions.push({ id, sequence, isDiscard, acknowledged: false });
    }
  }

  acknowledge(sector: number, count: number, isDurable: boolean): void {
    for (let at = sector; at < sector + count; at++) {
      const versions = this.#versions(at);
      const version = versions.at(-1) as Version;
      version.acknowledged = true;
      if (isDurable) this.#raise(at, version);
    }
  }

  #raise(sector: number, version: Version): void {
    const versions = this.#later.get(sector);
    const index = versions?.indexOf(version) ?? -1;
    if (versions === undefined || index < 0 || version.isDiscard) return;
    this.#floor[sector] = version.sequence;
    versions.splice(0, index + 1);
    if (versions.length === 0) this.#later.delete(sector);
  }

  /** What a flush that begins now must make durable. */
  beginFlush(): Map<number, Version> {
    const promised = new Map<number, Version>();
    for (const [sector, versions] of this.#later) {
      const last = versions.findLast(({ acknowledged }) => acknowledged);
      if (last !== undefined) promised.set(sector, last);
    }
    return promised;
  }

  endFlush(promised: ReadonlyMap<number, Version>): void {
    for (const [sector, version] of promised) this.#raise(sector, version);
  }

  /** Throws when the sector shows a content that it must not show. `from`: only the newest acknowledged one, or all since the floor. */
  check(sector: number, found: number, from: "acknowledged" | "floor", when: string): void {
    const versions = this.#later.get(sector) ?? [];
    const newest =
      from === "acknowledged" ? versions.findLastIndex((each) => each.acknowledged && !each.isDiscard) : -1;
    if (newest < 0 && found === this.#floor[sector]) return;
    for (let index = Math.max(0, newest); index < versions.length; index++) {
      const version = versions[index] as Version;
      if (version.isDiscard ? found === 0 : version.sequence === found) return;
    }
    const allowed = versions.slice(Math.max(0, newest)).map(({ sequence }) => sequence);
    throw new Error(
      `${when}: sector ${sector} shows write ${found}, allowed are ${[...(newest < 0 ? [this.#floor[sector]] : []), ...allowed].join(", ")}`,
    );
  }

  /** After a power cut what is there is there for good. */
  settle(disk: SimDisk): void {
    this.#floor.set(disk.current);
    this.#later.clear();
  }
}
