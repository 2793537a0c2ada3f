/** A file in memory, which can end a write in the middle. */
import type { ByteStorage } from "../../src/nvram/byte-storage.ts";

export class MemoryFile implements ByteStorage {
  bytes: Uint8Array;
  /** Bytes that can still be written before the machine goes off. */
  left = Infinity;
  writtenBytes = 0;
  /** Length at each sync. */
  readonly synced: number[] = [];
  readonly cut = (length: number): void => {
    this.bytes = this.bytes.slice(0, length);
  };

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }

  get sizeBytes(): number {
    return this.bytes.length;
  }

  /** As ByteFile: zeros behind the end. */
  read(offset: number, lengthBytes: number): Uint8Array {
    const read = new Uint8Array(lengthBytes);
    read.set(this.bytes.subarray(offset, offset + lengthBytes));
    return read;
  }

  write(offset: number, bytes: Uint8Array): void {
    const count = Math.min(bytes.length, this.left);
    if (offset + count > this.bytes.length) {
      const longer = new Uint8Array(offset + count);
      longer.set(this.bytes);
      this.bytes = longer;
    }
    this.bytes.set(bytes.subarray(0, count), offset);
    this.writtenBytes += count;
    this.left -= count;
    if (count < bytes.length) throw new Error("the machine goes off");
  }

  sync(): void {
    this.synced.push(this.bytes.length);
  }
}
