/** A file or block device by its descriptor, for plain reads and writes before anything is served from it. */
import { fdatasyncSync, fstatSync, readSync, writeSync } from "node:fs";
import type { ByteStorage } from "../nvram/byte-storage.ts";
import { native } from "../ublk/native.ts";

export class ByteFile implements ByteStorage {
  readonly #fd: number;

  constructor(fd: number) {
    this.#fd = fd;
  }

  get sizeBytes(): number {
    const stats = fstatSync(this.#fd);
    return stats.isBlockDevice() ? native.blockDevice(this.#fd).sizeBytes : stats.size;
  }

  read(offset: number, lengthBytes: number): Uint8Array {
    const bytes = new Uint8Array(lengthBytes);
    for (let done = 0; done < lengthBytes;) {
      const count = readSync(this.#fd, bytes, done, lengthBytes - done, offset + done);
      if (count === 0) break;
      done += count;
    }
    return bytes;
  }

  write(offset: number, bytes: Uint8Array): void {
    for (let done = 0; done < bytes.length;)
      done += writeSync(this.#fd, bytes, done, bytes.length - done, offset + done);
  }

  sync(): void {
    fdatasyncSync(this.#fd);
  }
}
