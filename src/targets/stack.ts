/** The stack of targets of one queue: what keeps the bytes at the bottom, instruments above it. */
import type { QueueContext, Target } from "../ublk/target.ts";
import { DelayTarget, type DelayOptions } from "./delay.ts";
import { ErrorTarget, type ErrorOptions } from "./error.ts";
import { FileTarget, type FileOptions } from "./file.ts";
import { MemoryTarget, type MemoryOptions } from "./memory.ts";
import { NullTarget } from "./null.ts";
import { TraceTarget, type TraceOptions } from "./trace.ts";

export type BottomOptions =
  ({ readonly kind: "file" } & FileOptions) | ({ readonly kind: "memory" } & MemoryOptions) | { readonly kind: "null" };

export type FilterOptions =
  | ({ readonly kind: "error" } & ErrorOptions)
  | ({ readonly kind: "delay" } & DelayOptions)
  | ({ readonly kind: "trace" } & TraceOptions);

export interface StackOptions {
  readonly bottom: BottomOptions;
  /** Outermost, nearest to the host, first. */
  readonly filters: readonly FilterOptions[];
}

/** The entry that a queue calls (TargetModule of ublk-ts). */
export function openTarget(options: StackOptions, context: QueueContext): Target {
  return options.filters.reduceRight((next, filter) => openFilter(filter, next, context), openBottom(options, context));
}

function openBottom({ bottom }: StackOptions, context: QueueContext): Target {
  switch (bottom.kind) {
    case "file":
      return new FileTarget(bottom, context);
    case "memory":
      return new MemoryTarget(bottom, context);
    case "null":
      return new NullTarget();
  }
}

function openFilter(filter: FilterOptions, next: Target, context: QueueContext): Target {
  switch (filter.kind) {
    case "error":
      return new ErrorTarget(filter, next);
    case "delay":
      return new DelayTarget(filter, next, context);
    case "trace":
      return new TraceTarget(filter, next, context);
  }
}
