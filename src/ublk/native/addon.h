// The addon is thin: system calls and mapped memory, nothing else. Policy, retries and checks of values that a user
// can give live in TypeScript; here a wrong argument type is a programming error and throws a TypeError.
//
// Every failing system call throws an Error with `errno` (positive), `code` ("EBUSY") and `syscall`, taken before
// anything else can overwrite errno.
#pragma once

#define NAPI_DISABLE_CPP_EXCEPTIONS
#include <napi.h>

#include <cerrno>
#include <cstdint>

namespace ublk {

/** Throws into JavaScript the error of the system call that has just failed, and returns an empty value. */
Napi::Value throwErrno(Napi::Env env, const char* syscall, int error = errno);

/** The argument at `index` as an exact integer in the range of a size or an address; throws a TypeError otherwise. */
bool integerArgument(const Napi::CallbackInfo& info, size_t index, int64_t& value);

/** Bytes that a typed array argument covers; null and undefined give an empty range. */
bool bytesArgument(const Napi::CallbackInfo& info, size_t index, uint8_t*& data, size_t& length);

void exportAbi(Napi::Env env, Napi::Object exports);
void exportMemory(Napi::Env env, Napi::Object exports);
void exportRing(Napi::Env env, Napi::Object exports);
void exportSystem(Napi::Env env, Napi::Object exports);

}  // namespace ublk
