// The remaining system calls that Node does not offer: block device ioctls, thread and process attributes, eventfd,
// locks, and the datagram of sd_notify(3).
#include "addon.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/fs.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#define PR_GET_IO_FLUSHER 58
#endif

namespace ublk {
namespace {

/** blockDevice(fd): { sizeBytes, logicalBlockBytes, physicalBlockBytes, readOnly } of an open block device. */
Napi::Value blockDevice(const Napi::CallbackInfo& info) {
  int64_t fd;
  if (!integerArgument(info, 0, fd)) return Napi::Value();
  uint64_t size = 0;
  int logical = 0;
  unsigned physical = 0;
  int readOnly = 0;
  if (ioctl(static_cast<int>(fd), BLKGETSIZE64, &size) != 0) return throwErrno(info.Env(), "ioctl BLKGETSIZE64");
  if (ioctl(static_cast<int>(fd), BLKSSZGET, &logical) != 0) return throwErrno(info.Env(), "ioctl BLKSSZGET");
  if (ioctl(static_cast<int>(fd), BLKPBSZGET, &physical) != 0) return throwErrno(info.Env(), "ioctl BLKPBSZGET");
  if (ioctl(static_cast<int>(fd), BLKROGET, &readOnly) != 0) return throwErrno(info.Env(), "ioctl BLKROGET");
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("sizeBytes", Napi::Number::New(info.Env(), static_cast<double>(size)));
  result.Set("logicalBlockBytes", Napi::Number::New(info.Env(), logical));
  result.Set("physicalBlockBytes", Napi::Number::New(info.Env(), physical));
  result.Set("readOnly", Napi::Boolean::New(info.Env(), readOnly != 0));
  return result;
}

/** setIoFlusher(): prctl(PR_SET_IO_FLUSHER) for the calling thread and the threads that it will make; read back. */
Napi::Value setIoFlusher(const Napi::CallbackInfo& info) {
  if (prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) != 0) return throwErrno(info.Env(), "prctl PR_SET_IO_FLUSHER");
  if (prctl(PR_GET_IO_FLUSHER, 0, 0, 0, 0) != 1) return throwErrno(info.Env(), "prctl PR_GET_IO_FLUSHER", EIO);
  return info.Env().Undefined();
}

/** setAffinity(mask): sched_setaffinity(2) of the calling thread; mask is the kernel's bitmap as bytes. */
Napi::Value setAffinity(const Napi::CallbackInfo& info) {
  uint8_t* mask;
  size_t length;
  if (!bytesArgument(info, 0, mask, length)) return Napi::Value();
  if (syscall(SYS_sched_setaffinity, 0, length, mask) != 0) return throwErrno(info.Env(), "sched_setaffinity");
  return info.Env().Undefined();
}

/** dropCapability(number): takes a capability out of the calling thread's effective and permitted sets. */
Napi::Value dropCapability(const Napi::CallbackInfo& info) {
  int64_t capability;
  if (!integerArgument(info, 0, capability)) return Napi::Value();
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct sets[2];
  if (syscall(SYS_capget, &header, sets) != 0) return throwErrno(info.Env(), "capget");
  const uint32_t bit = 1u << (capability % 32);
  sets[capability / 32].effective &= ~bit;
  sets[capability / 32].permitted &= ~bit;
  sets[capability / 32].inheritable &= ~bit;
  if (syscall(SYS_capset, &header, sets) != 0) return throwErrno(info.Env(), "capset");
  return info.Env().Undefined();
}

/** eventDescriptor(): eventfd(2), blocking, closed on exec. */
Napi::Value eventDescriptor(const Napi::CallbackInfo& info) {
  const int fd = eventfd(0, EFD_CLOEXEC);
  if (fd < 0) return throwErrno(info.Env(), "eventfd");
  return Napi::Number::New(info.Env(), fd);
}

/** lockFile(fd): an exclusive flock(2), without waiting. False when somebody else holds it. */
Napi::Value lockFile(const Napi::CallbackInfo& info) {
  int64_t fd;
  if (!integerArgument(info, 0, fd)) return Napi::Value();
  if (flock(static_cast<int>(fd), LOCK_EX | LOCK_NB) == 0) return Napi::Boolean::New(info.Env(), true);
  if (errno == EWOULDBLOCK) return Napi::Boolean::New(info.Env(), false);
  return throwErrno(info.Env(), "flock");
}

/** canAllocate(fd, offset, mode): whether fallocate(2) knows this mode here, tried on one page at `offset`. */
Napi::Value canAllocate(const Napi::CallbackInfo& info) {
  int64_t fd, offset, mode;
  if (!integerArgument(info, 0, fd) || !integerArgument(info, 1, offset) || !integerArgument(info, 2, mode)) {
    return Napi::Value();
  }
  if (fallocate(static_cast<int>(fd), static_cast<int>(mode), offset, 4096) == 0) {
    return Napi::Boolean::New(info.Env(), true);
  }
  // EFBIG: the file system has no file that large.
  if (errno == EOPNOTSUPP || errno == ENOSYS || errno == EINVAL || errno == EFBIG) {
    return Napi::Boolean::New(info.Env(), false);
  }
  return throwErrno(info.Env(), "fallocate");
}

/** sendDatagram(path, text): one datagram to a Unix socket; a leading '@' means the abstract name space. */
Napi::Value sendDatagram(const Napi::CallbackInfo& info) {
  const std::string path = info[0].As<Napi::String>();
  const std::string text = info[1].As<Napi::String>();
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof(address.sun_path)) return throwErrno(info.Env(), "sendto", ENAMETOOLONG);
  memcpy(address.sun_path, path.data(), path.size());
  if (path[0] == '@') address.sun_path[0] = '\0';
  const socklen_t length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size());
  const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return throwErrno(info.Env(), "socket");
  const ssize_t sent =
      sendto(fd, text.data(), text.size(), MSG_NOSIGNAL, reinterpret_cast<sockaddr*>(&address), length);
  const int error = errno;
  close(fd);
  if (sent < 0) return throwErrno(info.Env(), "sendto", error);
  return info.Env().Undefined();
}

}  // namespace

void exportSystem(Napi::Env env, Napi::Object exports) {
  exports.Set("blockDevice", Napi::Function::New(env, blockDevice, "blockDevice"));
  exports.Set("setIoFlusher", Napi::Function::New(env, setIoFlusher, "setIoFlusher"));
  exports.Set("setAffinity", Napi::Function::New(env, setAffinity, "setAffinity"));
  exports.Set("dropCapability", Napi::Function::New(env, dropCapability, "dropCapability"));
  exports.Set("eventDescriptor", Napi::Function::New(env, eventDescriptor, "eventDescriptor"));
  exports.Set("lockFile", Napi::Function::New(env, lockFile, "lockFile"));
  exports.Set("canAllocate", Napi::Function::New(env, canAllocate, "canAllocate"));
  exports.Set("sendDatagram", Napi::Function::New(env, sendDatagram, "sendDatagram"));
}

}  // namespace ublk
