/** What a process that serves block devices does for its own safety. */
import { native } from "./native.ts";

/**
 * Marks this thread, and those that it will make, as IO_FLUSHER: they do not wait for this machine's own devices when they
 * need memory. To be called before any other thread is made. False where the kernel does not allow it (CAP_SYS_RESOURCE):
 * devices work then, but may deadlock when memory is short.
 *
 * The buffers of a queue are locked in memory by the queue itself. The whole process cannot be: V8 gives pages back with
 * madvise(MADV_DONTNEED), which locked memory refuses, and aborts. Keep the process out of swap by its control group
 * instead (MemorySwapMax=0).
 */
export function protectProcess(): boolean {
  try {
    native.setIoFlusher();
    return true;
  } catch {
    return false;
  }
}
