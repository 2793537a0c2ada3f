/** What the receiver's log needs of input and output. */
import type { Io } from "../ublk/io.ts";

export type LogIo = Pick<Io, "addHandler" | "memory" | "transfer">;
