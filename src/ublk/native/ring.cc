// io_uring's three system calls. The rings themselves are memory that TypeScript reads and writes; what is left for
// native code is entering the kernel, once per batch.
#include "addon.h"

#include <linux/io_uring.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

namespace ublk {
namespace {

/** Shared with TypeScript (ring.ts, ENTER): one call passes no values, so it costs no conversions. */
struct EnterBlock {
  int32_t fd;
  int32_t toSubmit;
  int32_t minComplete;
  uint32_t flags;
  int32_t result;  // number of entries taken, or -errno
  int32_t reserved;
  double enteredUs;   // monotonic clock when the kernel was entered
  double returnedUs;  // and when it came back
};
static_assert(sizeof(EnterBlock) == 40);

double monotonicUs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) * 1e6 + static_cast<double>(now.tv_nsec) / 1e3;
}

/** The hot call. Plain Node-API rather than its C++ wrapper: no arguments, no result, no handle scope. */
napi_value enter(napi_env env, napi_callback_info info) {
  void* data = nullptr;
  napi_get_cb_info(env, info, nullptr, nullptr, nullptr, &data);
  auto* block = static_cast<EnterBlock*>(data);
  block->enteredUs = monotonicUs();
  const long taken =
      syscall(SYS_io_uring_enter, block->fd, block->toSubmit, block->minComplete, block->flags, nullptr, 0);
  block->result = taken >= 0 ? static_cast<int32_t>(taken) : -errno;
  block->returnedUs = monotonicUs();
  return nullptr;
}

/** createEnter(blockAddress): a function that enters the kernel with what the block says. The block must outlive it. */
Napi::Value createEnter(const Napi::CallbackInfo& info) {
  int64_t address;
  if (!integerArgument(info, 0, address)) return Napi::Value();
  napi_value function = nullptr;
  napi_create_function(info.Env(), "enter", NAPI_AUTO_LENGTH, enter, reinterpret_cast<void*>(address), &function);
  return Napi::Value(info.Env(), function);
}

/** ringSetup(entries, params): io_uring_setup(2); params are io_uring_params, rewritten by the kernel. */
Napi::Value ringSetup(const Napi::CallbackInfo& info) {
  int64_t entries;
  uint8_t* params;
  size_t length;
  if (!integerArgument(info, 0, entries) || !bytesArgument(info, 1, params, length)) return Napi::Value();
  if (length != sizeof(io_uring_params)) return throwErrno(info.Env(), "io_uring_setup", EINVAL);
  const long fd = syscall(SYS_io_uring_setup, static_cast<unsigned>(entries), params);
  if (fd < 0) return throwErrno(info.Env(), "io_uring_setup");
  return Napi::Number::New(info.Env(), static_cast<double>(fd));
}

/** ringRegister(fd, opcode, argument, count): io_uring_register(2); argument is bytes or null. Gives its result. */
Napi::Value ringRegister(const Napi::CallbackInfo& info) {
  int64_t fd, opcode, count;
  uint8_t* argument;
  size_t length;
  if (!integerArgument(info, 0, fd) || !integerArgument(info, 1, opcode) || !bytesArgument(info, 2, argument, length) ||
      !integerArgument(info, 3, count)) {
    return Napi::Value();
  }
  const long result = syscall(SYS_io_uring_register, static_cast<int>(fd), static_cast<unsigned>(opcode), argument,
                              static_cast<unsigned>(count));
  if (result < 0) return throwErrno(info.Env(), "io_uring_register");
  return Napi::Number::New(info.Env(), static_cast<double>(result));
}

}  // namespace

void exportRing(Napi::Env env, Napi::Object exports) {
  exports.Set("createEnter", Napi::Function::New(env, createEnter, "createEnter"));
  exports.Set("ringSetup", Napi::Function::New(env, ringSetup, "ringSetup"));
  exports.Set("ringRegister", Napi::Function::New(env, ringRegister, "ringRegister"));
}

}  // namespace ublk
