/** What a process that serves block devices does for its own safety. */
import { native } from "./native.ts";

export interface ProcessProtection {
  /** Threads made from now on do not wait for this machine's own devices when they need memory. */
  readonly ioFlusher: boolean;
  /** Pages that were touched stay in memory. */
  readonly lockedMemory: boolean;
}

/**
 * Marks this thread, and those that it will make, as IO_FLUSHER, and keeps the process's pages in memory. To be called
 * before any other thread is made. Says what the kernel allowed, rather than failing: without the rights (CAP_SYS_RESOURCE,
 * RLIMIT_MEMLOCK) a device works, but may deadlock when memory is short.
 */
export function protectProcess(): ProcessProtection {
  return { ioFlusher: allowed(native.setIoFlusher), lockedMemory: allowed(native.lockProcessMemory) };
}

function allowed(call: () => void): boolean {
  try {
    call();
    return true;
  } catch {
    return false;
  }
}
