// Mapped memory as ArrayBuffers. A mapping lives until unmap() is called, never until garbage is collected: the kernel
// may still write into it when JavaScript has long forgotten it.
#include "addon.h"

#include <sys/mman.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

namespace ublk {
namespace {

/** map(fd, offset, length, protection, flags): mmap(2); fd -1 for anonymous memory. Gives { address, buffer }. */
Napi::Value map(const Napi::CallbackInfo& info) {
  int64_t fd, offset, length, protection, flags;
  if (!integerArgument(info, 0, fd) || !integerArgument(info, 1, offset) || !integerArgument(info, 2, length) ||
      !integerArgument(info, 3, protection) || !integerArgument(info, 4, flags)) {
    return Napi::Value();
  }
  void* start = mmap(nullptr, static_cast<size_t>(length), static_cast<int>(protection), static_cast<int>(flags),
                     static_cast<int>(fd), static_cast<off_t>(offset));
  if (start == MAP_FAILED) return throwErrno(info.Env(), "mmap");
  Napi::Object mapping = Napi::Object::New(info.Env());
  mapping.Set("address", Napi::Number::New(info.Env(), static_cast<double>(reinterpret_cast<uintptr_t>(start))));
  mapping.Set("buffer", Napi::ArrayBuffer::New(info.Env(), start, static_cast<size_t>(length)));
  return mapping;
}

/** unmap(address, buffer): detaches the buffer, so that no view of it can be used again, then munmap(2). */
Napi::Value unmap(const Napi::CallbackInfo& info) {
  int64_t address;
  if (!integerArgument(info, 0, address)) return Napi::Value();
  Napi::ArrayBuffer buffer = info[1].As<Napi::ArrayBuffer>();
  const size_t length = buffer.ByteLength();
  buffer.Detach();
  if (info.Env().IsExceptionPending()) return Napi::Value();
  if (munmap(reinterpret_cast<void*>(address), length) != 0) return throwErrno(info.Env(), "munmap");
  return info.Env().Undefined();
}

/** view(address, length): memory that another thread of this process has mapped, as an ArrayBuffer of this thread. */
Napi::Value view(const Napi::CallbackInfo& info) {
  int64_t address, length;
  if (!integerArgument(info, 0, address) || !integerArgument(info, 1, length)) return Napi::Value();
  return Napi::ArrayBuffer::New(info.Env(), reinterpret_cast<void*>(address), static_cast<size_t>(length));
}

/** lockMemory(address, length): mlock(2). */
Napi::Value lockMemory(const Napi::CallbackInfo& info) {
  int64_t address, length;
  if (!integerArgument(info, 0, address) || !integerArgument(info, 1, length)) return Napi::Value();
  if (mlock(reinterpret_cast<void*>(address), static_cast<size_t>(length)) != 0) return throwErrno(info.Env(), "mlock");
  return info.Env().Undefined();
}

/** syncMemory(address, length): msync(2) with MS_SYNC. The address is rounded down to its page. */
Napi::Value syncMemory(const Napi::CallbackInfo& info) {
  int64_t address, length;
  if (!integerArgument(info, 0, address) || !integerArgument(info, 1, length)) return Napi::Value();
  const int64_t within = address % sysconf(_SC_PAGESIZE);
  if (msync(reinterpret_cast<void*>(address - within), static_cast<size_t>(length + within), MS_SYNC) != 0) {
    return throwErrno(info.Env(), "msync");
  }
  return info.Env().Undefined();
}

#if defined(__x86_64__)
enum class Flush { clwb, clflushopt, clflush };

Flush bestFlush() {
  unsigned eax, ebx, ecx, edx;
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) {
    if (ebx & bit_CLWB) return Flush::clwb;
    if (ebx & bit_CLFLUSHOPT) return Flush::clflushopt;
  }
  return Flush::clflush;
}

__attribute__((target("clwb"))) void writeBackClwb(char* line) { _mm_clwb(line); }
__attribute__((target("clflushopt"))) void writeBackClflushopt(char* line) { _mm_clflushopt(line); }

void writeBack(char* from, char* to) {
  static const Flush flush = bestFlush();
  for (char* line = from; line < to; line += 64) {
    switch (flush) {
      case Flush::clwb: writeBackClwb(line); break;
      case Flush::clflushopt: writeBackClflushopt(line); break;
      case Flush::clflush: _mm_clflush(line); break;
    }
  }
  _mm_sfence();
}
#elif defined(__aarch64__)
void writeBack(char* from, char* to) {
  // dc cvap ("clean to the point of persistence") is in Armv8.2; written as sys, so that any assembler takes it.
  for (char* line = from; line < to; line += 64) asm volatile("sys #3, c7, c12, #1, %0" : : "r"(line) : "memory");
  asm volatile("dsb ish" : : : "memory");
}
#else
#error "ublk-ts knows how to persist cache lines on x86-64 and arm64 only"
#endif

/** persist(address, length): writes the cache lines back to persistent memory and waits for them (no system call). */
Napi::Value persist(const Napi::CallbackInfo& info) {
  int64_t address, length;
  if (!integerArgument(info, 0, address) || !integerArgument(info, 1, length)) return Napi::Value();
  constexpr uintptr_t line = 64;
  const uintptr_t start = static_cast<uintptr_t>(address) & ~(line - 1);
  writeBack(reinterpret_cast<char*>(start), reinterpret_cast<char*>(address + length));
  return info.Env().Undefined();
}

}  // namespace

void exportMemory(Napi::Env env, Napi::Object exports) {
  exports.Set("map", Napi::Function::New(env, map, "map"));
  exports.Set("unmap", Napi::Function::New(env, unmap, "unmap"));
  exports.Set("view", Napi::Function::New(env, view, "view"));
  exports.Set("lockMemory", Napi::Function::New(env, lockMemory, "lockMemory"));
  exports.Set("syncMemory", Napi::Function::New(env, syncMemory, "syncMemory"));
  exports.Set("persist", Napi::Function::New(env, persist, "persist"));
}

}  // namespace ublk
