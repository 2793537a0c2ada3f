/**
 * What dm-log-writes has recorded (Documentation/admin-guide/device-mapper/log-writes.rst): writes in the order in which
 * they became durable, and marks. A write enters the log with the flush that covers it, or at once with FUA.
 */
import type { FileHandle } from "node:fs/promises";

const SUPER = { magic: 0, version: 8, entries: 16, sectorBytes: 24 } as const;
const ENTRY = { sector: 0, sectors: 8, flags: 16, dataBytes: 24, size: 32 } as const;
const FLAG = { DISCARD: 4, MARK: 8 } as const;
const MAGIC = 0x6a736677736872n;

export interface LogEntry {
  readonly kind: "write" | "discard" | "mark";
  readonly offset: number;
  readonly length: number;
  /** Bytes written, or the text of the mark. */
  readonly data: Buffer;
}

export async function* readLog(file: FileHandle): AsyncGenerator<LogEntry> {
  const { buffer: head } = await file.read(Buffer.alloc(4096), 0, 4096, 0);
  if (head.readBigUInt64LE(SUPER.magic) !== MAGIC) throw new Error("this is no log of dm-log-writes");
  const count = Number(head.readBigUInt64LE(SUPER.entries));
  const sectorBytes = head.readUInt32LE(SUPER.sectorBytes);
  let at = sectorBytes;
  for (let index = 0; index < count; index++) {
    const { buffer: entry } = await file.read(Buffer.alloc(sectorBytes), 0, sectorBytes, at);
    at += sectorBytes;
    const flags = Number(entry.readBigUInt64LE(ENTRY.flags));
    const offset = Number(entry.readBigUInt64LE(ENTRY.sector)) * sectorBytes;
    const length = Number(entry.readBigUInt64LE(ENTRY.sectors)) * sectorBytes;
    if ((flags & FLAG.MARK) !== 0) {
      const dataBytes = Number(entry.readBigUInt64LE(ENTRY.dataBytes));
      yield { kind: "mark", offset: 0, length: 0, data: entry.subarray(ENTRY.size, ENTRY.size + dataBytes) };
    } else if ((flags & FLAG.DISCARD) !== 0) {
      yield { kind: "discard", offset, length, data: Buffer.alloc(0) };
    } else {
      const { buffer: data } = await file.read(Buffer.alloc(length), 0, length, at);
      at += length;
      yield { kind: "write", offset, length, data };
    }
  }
}
