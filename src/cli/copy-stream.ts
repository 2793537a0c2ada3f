/** What `sluice copy` does with streams: sends one to standard output, checks one, writes a device or file from one. */
import { execFile } from "node:child_process";
import { randomUUID } from "node:crypto";
import { constants, createReadStream, openSync } from "node:fs";
import { rm } from "node:fs/promises";
import { Socket } from "node:net";
import { pipeline } from "node:stream/promises";
import { promisify } from "node:util";
import { askCopies, askCopyCancel, askCopyStart } from "../control/client.ts";
import type { NewCopy } from "../control/new-copy.ts";
import { runtimeDirectory } from "../control/paths.ts";
import { openRestoreTarget } from "../copy/restore-target.ts";
import { recordsOf } from "../copy/originals-stream.ts";
import { CONTROL_BYTES } from "../targets/stream-format.ts";
import { recordBytesOf, StreamReader, type StreamRecord } from "../targets/stream-reader.ts";
import { UblkError } from "../ublk/errors.ts";
import { progressOf } from "./progress.ts";

const execute = promisify(execFile);

/** A job whose stream goes through this process: it is over when this resolves. Throws ECOPY where it has failed. */
export async function streamToStdout(volume: string, wanted: NewCopy): Promise<void> {
  const pipe = `${runtimeDirectory()}/${randomUUID()}.pipe`;
  await execute("mkfifo", ["--mode=600", pipe]);
  try {
    // The daemon cannot open a pipe that nobody reads.
    const fd = openSync(pipe, constants.O_RDONLY | constants.O_NONBLOCK);
    const { name } = await askCopyStart(volume, { ...wanted, destinations: [pipe] });
    const socket = new Socket({ fd, readable: true, writable: false });
    await pipeline(socket, process.stdout);
    const row = (await askCopies(volume)).find((each) => each.name === name);
    await askCopyCancel(volume, name);
    if (row?.state !== "complete") {
      throw new UblkError("ECOPY", `Copy job "${name}" has failed: ${row?.error ?? "somebody has cancelled it"}`);
    }
  } finally {
    await rm(pipe, { force: true });
  }
}

export interface CheckedStream {
  readonly volume: string;
  /** ISO 8601: the moment whose volume it is. */
  readonly time: string;
  readonly volumeBytes: number;
  readonly recordBytes: number;
  readonly records: number;
}

/** Reads a stream to its end. Throws ESTREAM where anything in it is damaged or missing; says how much of it is whole. */
export function checkStream(path: string): Promise<CheckedStream> {
  return readStream(path, () => undefined);
}

/**
 * Writes what a stream holds to a device, or to a new file; to one that is there if `force` says so. Durable when it resolves.
 * Throws as openRestoreTarget, ESTREAM.
 */
export async function restoreStream(path: string, destination: string, force: boolean): Promise<CheckedStream> {
  await using to = await openRestoreTarget(destination, force);
  let progress: (bytes: number) => void = () => undefined;
  let bytes = 0;
  const checked = await readStream(path, (record) => {
    if (record.kind === "start") {
      const { volumeBytes } = record.start;
      to.fit(volumeBytes);
      progress = progressOf("restored", volumeBytes);
    } else if (record.kind === "data") {
      for (const part of record.parts) {
        to.file.write(part.offset, part.bytes);
        progress((bytes += part.bytes.length));
      }
    }
  });
  await to.finish();
  return checked;
}

async function readStream(path: string, take: (record: StreamRecord) => void): Promise<CheckedStream> {
  const { recordBytes, chunks } = await withRecordSize(createReadStream(path));
  const reader = new StreamReader(recordBytes);
  for await (const record of recordsOf(chunks, recordBytes)) {
    const taken = reader.take(record);
    if (taken.kind === "start" && taken.start.content !== "copy") {
      throw new UblkError("ESTREAM", `${path} holds originals, no whole copy: see bulk restore`);
    }
    take(taken);
  }
  reader.end();
  const { start } = reader;
  if (start === undefined || reader.payloadBytes < start.volumeBytes) {
    throw new UblkError("ESTREAM", `${path} has ${reader.payloadBytes} bytes of data, less than the volume had`);
  }
  const { volume, createdMs, volumeBytes } = start;
  const time = new Date(createdMs).toISOString();
  return { volume, time, volumeBytes, recordBytes, records: reader.wholeRecords };
}

/** The first bytes tell how long a record is; they come first again. */
async function withRecordSize(
  source: AsyncIterable<Uint8Array>,
): Promise<{ recordBytes: number; chunks: AsyncIterable<Uint8Array> }> {
  const iterator = source[Symbol.asyncIterator]();
  let first = Buffer.alloc(0);
  while (first.length < CONTROL_BYTES) {
    const next = await iterator.next();
    if (next.done === true) break;
    first = Buffer.concat([first, next.value]);
  }
  async function* chunks(): AsyncGenerator<Uint8Array> {
    yield first;
    for (let next = await iterator.next(); next.done !== true; next = await iterator.next()) yield next.value;
  }
  return { recordBytes: recordBytesOf(first), chunks: chunks() };
}
