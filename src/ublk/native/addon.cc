#include "addon.h"

#include <cmath>
#include <cstring>

namespace ublk {

Napi::Value throwErrno(Napi::Env env, const char* syscall, int error) {
  std::string text = std::string(syscall) + ": " + strerror(error);
  Napi::Error thrown = Napi::Error::New(env, text);
  thrown.Set("errno", Napi::Number::New(env, error));
  thrown.Set("code", Napi::String::New(env, strerrorname_np(error) ? strerrorname_np(error) : "EUNKNOWN"));
  thrown.Set("syscall", Napi::String::New(env, syscall));
  thrown.ThrowAsJavaScriptException();
  return Napi::Value();
}

bool integerArgument(const Napi::CallbackInfo& info, size_t index, int64_t& value) {
  constexpr double exactMax = 9007199254740991.0;
  if (index < info.Length() && info[index].IsNumber()) {
    const double number = info[index].As<Napi::Number>().DoubleValue();
    if (number == std::floor(number) && std::fabs(number) <= exactMax) {
      value = static_cast<int64_t>(number);
      return true;
    }
  }
  Napi::TypeError::New(info.Env(), "argument " + std::to_string(index) + ": wanted an exact integer")
      .ThrowAsJavaScriptException();
  return false;
}

bool bytesArgument(const Napi::CallbackInfo& info, size_t index, uint8_t*& data, size_t& length) {
  data = nullptr;
  length = 0;
  if (index >= info.Length() || info[index].IsNull() || info[index].IsUndefined()) return true;
  if (info[index].IsTypedArray()) {
    void* start = nullptr;
    napi_typedarray_type type;
    size_t elements = 0;
    napi_get_typedarray_info(info.Env(), info[index], &type, &elements, &start, nullptr, nullptr);
    data = static_cast<uint8_t*>(start);
    length = info[index].As<Napi::TypedArray>().ByteLength();
    return true;
  }
  Napi::TypeError::New(info.Env(), "argument " + std::to_string(index) + ": wanted a typed array or null")
      .ThrowAsJavaScriptException();
  return false;
}

namespace {

Napi::Object initialise(Napi::Env env, Napi::Object exports) {
  exportAbi(env, exports);
  exportMemory(env, exports);
  exportRing(env, exports);
  exportSystem(env, exports);
  return exports;
}

}  // namespace
}  // namespace ublk

static Napi::Object initialiseAddon(Napi::Env env, Napi::Object exports) { return ublk::initialise(env, exports); }

NODE_API_MODULE(ublk, initialiseAddon)
