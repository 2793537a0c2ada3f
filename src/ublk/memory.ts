/**
 * Memory that the kernel shares with us, at an address that never changes. It lives until it is disposed of, never until
 * garbage is collected: the kernel may still write into it.
 */
import { codeOf } from "./errors.ts";
import { native, type Address } from "./native.ts";

const PROT_READ = 1;
const PROT_WRITE = 2;
const MAP_SHARED = 1;
const MAP_SHARED_VALIDATE = 3;
const MAP_SYNC = 0x80000;
const MAP_PRIVATE = 2;
const MAP_ANONYMOUS = 0x20;
const MAP_POPULATE = 0x8000;

export interface FileMapping {
  readonly fd: number;
  readonly offset: number;
  readonly lengthBytes: number;
  readonly writable: boolean;
}

export class MappedMemory implements Disposable {
  readonly address: Address;
  readonly #buffer: ArrayBuffer;
  #mapped = true;

  private constructor(mapping: { address: Address; buffer: ArrayBuffer }) {
    this.address = mapping.address;
    this.#buffer = mapping.buffer;
  }

  /** Fresh zeroed memory, all of it present at once, so that no page fault waits for memory later. */
  static anonymous(lengthBytes: number): MappedMemory {
    const flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE;
    return new MappedMemory(native.map(-1, 0, lengthBytes, PROT_READ | PROT_WRITE, flags));
  }

  /** A part of a file or device, shared with whoever else maps it. */
  static ofFile({ fd, offset, lengthBytes, writable }: FileMapping): MappedMemory {
    const protection = writable ? PROT_READ | PROT_WRITE : PROT_READ;
    return new MappedMemory(native.map(fd, offset, lengthBytes, protection, MAP_SHARED));
  }

  /**
   * A part of a file on persistent memory: what is written there and persisted (native.persist) is durable. Undefined
   * where the file is none such: MAP_SYNC is refused then.
   */
  static ofPersistentFile({ fd, offset, lengthBytes }: FileMapping): MappedMemory | undefined {
    try {
      return new MappedMemory(
        native.map(fd, offset, lengthBytes, PROT_READ | PROT_WRITE, MAP_SHARED_VALIDATE | MAP_SYNC),
      );
    } catch (error) {
      if (codeOf(error) === "EOPNOTSUPP" || codeOf(error) === "EINVAL") return undefined;
      throw error;
    }
  }

  get buffer(): ArrayBuffer {
    return this.#buffer;
  }

  get lengthBytes(): number {
    return this.#buffer.byteLength;
  }

  /** Keeps the pages from being swapped out. Throws ENOMEM or EPERM where RLIMIT_MEMLOCK forbids it. */
  lock(): void {
    native.lockMemory(this.address, this.lengthBytes);
  }

  /** After this every view of the memory has length 0. Disposing twice is harmless. */
  [Symbol.dispose](): void {
    if (!this.#mapped) return;
    this.#mapped = false;
    native.unmap(this.address, this.#buffer);
  }
}
