/** A target for tests: keeps its thread for good when the request at the magic place comes, once. */
import { existsSync, writeFileSync } from "node:fs";
import { Operation } from "../../../src/ublk/request.ts";
import type { Target } from "../../../src/ublk/target.ts";

export interface TroubleOptions {
  readonly kind: "stuck" | "throws" | "lost";
  readonly offset: number;
  /** Exists once the trouble has been made. */
  readonly marker: string;
}

export function openTarget({ kind, offset, marker }: TroubleOptions): Target {
  return {
    submit(request) {
      if (request.operation === Operation.READ && request.offset === offset && !existsSync(marker)) {
        writeFileSync(marker, "");
        if (kind === "stuck") Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
        if (kind === "lost") process.exit(1);
        throw Object.assign(new Error("a fault of the target"), { code: "ENOLINK" });
      }
      request.buffer.fill(7, 0, request.length);
      request.succeed();
    },
  };
}
