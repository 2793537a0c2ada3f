/** A file, or what stands for one in a simulation, before anything is served from it. Each call ends when it is done. */
export interface ByteStorage {
  readonly sizeBytes: number;
  /** Zeroes where it ends. Errors are thrown, as by all of these. */
  read(offset: number, lengthBytes: number): Uint8Array;
  write(offset: number, bytes: Uint8Array): void;
  /** All that was written is durable. */
  sync(): void;
}
