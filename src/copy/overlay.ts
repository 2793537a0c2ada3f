/** Lays originals over a copy, in place: it becomes what the volume was. */
import type { ByteStorage } from "../nvram/byte-storage.ts";
import { StreamReader } from "./stream-reader.ts";

/** Durable when this resolves. Doing it again does no harm. Throws ESTREAM where the stream is damaged, or ends too early. */
export async function overlayOriginals(
  records: AsyncIterable<Uint8Array>,
  recordBytes: number,
  to: ByteStorage,
  progress: (bytes: number) => void,
): Promise<void> {
  const reader = new StreamReader(recordBytes);
  let bytes = 0;
  for await (const record of records) {
    const taken = reader.take(record);
    if (taken.kind !== "data") continue;
    to.write(taken.offset, taken.payload);
    progress((bytes += taken.payload.length));
  }
  reader.end();
  to.sync();
}
