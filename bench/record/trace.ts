/**
 * A trace: the writes to one volume in the order of their issue, in flat arrays, so that many models can be run over it.
 *
 * Invariant. Every write has a length and lies within the volume; time never runs backward.
 */

/** One write. */
export interface Write {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  /** Microseconds since the write before; the pace of the synthetic traces where it is not given. */
  readonly pauseUs?: number;
}

export interface Trace {
  readonly name: string;
  /** Size of the volume. */
  readonly volumeBytes: number;
  readonly length: number;
  readonly offsets: Float64Array;
  readonly lengths: Float64Array;
  /** Microseconds from the start. Only models that clear what is idle look at it. */
  readonly timesUs: Float64Array;
}

/** The pace of synthetic traces: 5,000 writes a second. */
export const PACE_US = 200;

export function collect(name: string, volumeBytes: number, writes: Iterable<Write>): Trace {
  const offsets: number[] = [];
  const lengths: number[] = [];
  const times: number[] = [];
  let timeUs = 0;
  for (const { offsetBytes, lengthBytes, pauseUs = PACE_US } of writes) {
    if (lengthBytes <= 0 || offsetBytes < 0 || offsetBytes + lengthBytes > volumeBytes || pauseUs < 0)
      throw new RangeError(`${name}: ${lengthBytes} bytes at ${offsetBytes} do not fit into ${volumeBytes}`);
    offsets.push(offsetBytes);
    lengths.push(lengthBytes);
    times.push((timeUs += pauseUs));
  }
  return {
    name,
    volumeBytes,
    length: offsets.length,
    offsets: Float64Array.from(offsets),
    lengths: Float64Array.from(lengths),
    timesUs: Float64Array.from(times),
  };
}
