/** Lays originals over a copy, in place: it becomes what the volume was. */
import type { ByteStorage } from "../nvram/byte-storage.ts";
import { StreamReader } from "../targets/stream-reader.ts";

/** Durable when this resolves. Doing it again does no harm. Throws ESTREAM where the stream is damaged, or ends too early. */
export async function overlayOriginals(
  records: AsyncIterable<Uint8Array>,
  recordBytes: number,
  to: ByteStorage,
  progress: (bytes: number) => void,
): Promise<void> {
  const reader = new StreamReader(recordBytes);
  for await (const record of records) {
    const taken = reader.take(record);
    if (taken.kind !== "data") continue;
    for (const part of taken.parts) to.write(part.offset, part.bytes);
    progress(reader.payloadBytes);
  }
  reader.end();
  to.sync();
}
