// Sizes and offsets of the kernel's structures as the compiler sees them. TypeScript keeps its own tables (abi.ts) and
// refuses to start when the two differ.
#include "addon.h"

#include <linux/io_uring.h>
#include <linux/ublk_cmd.h>
#include <sys/mman.h>

#include <cstddef>

namespace ublk {

#define SIZE(name, type) abi.Set(name, Napi::Number::New(env, sizeof(type)))
#define OFFSET(name, type, field) abi.Set(name, Napi::Number::New(env, offsetof(type, field)))

void exportAbi(Napi::Env env, Napi::Object exports) {
  Napi::Object abi = Napi::Object::New(env);

  SIZE("sqe.size", io_uring_sqe);
  OFFSET("sqe.opcode", io_uring_sqe, opcode);
  OFFSET("sqe.fd", io_uring_sqe, fd);
  OFFSET("sqe.off", io_uring_sqe, off);
  OFFSET("sqe.addr", io_uring_sqe, addr);
  OFFSET("sqe.len", io_uring_sqe, len);
  OFFSET("sqe.opFlags", io_uring_sqe, rw_flags);
  OFFSET("sqe.userData", io_uring_sqe, user_data);
  OFFSET("sqe.bufIndex", io_uring_sqe, buf_index);
  OFFSET("sqe.fileIndex", io_uring_sqe, file_index);
  OFFSET("sqe.cmd", io_uring_sqe, cmd);
  OFFSET("sqe.cmdOp", io_uring_sqe, cmd_op);
  SIZE("cqe.size", io_uring_cqe);
  OFFSET("cqe.userData", io_uring_cqe, user_data);
  OFFSET("cqe.res", io_uring_cqe, res);
  OFFSET("cqe.flags", io_uring_cqe, flags);
  SIZE("params.size", io_uring_params);
  OFFSET("params.sqEntries", io_uring_params, sq_entries);
  OFFSET("params.cqEntries", io_uring_params, cq_entries);
  OFFSET("params.flags", io_uring_params, flags);
  OFFSET("params.features", io_uring_params, features);
  OFFSET("params.sqHead", io_uring_params, sq_off.head);
  OFFSET("params.sqTail", io_uring_params, sq_off.tail);
  OFFSET("params.sqFlags", io_uring_params, sq_off.flags);
  OFFSET("params.sqDropped", io_uring_params, sq_off.dropped);
  OFFSET("params.sqArray", io_uring_params, sq_off.array);
  OFFSET("params.cqHead", io_uring_params, cq_off.head);
  OFFSET("params.cqTail", io_uring_params, cq_off.tail);
  OFFSET("params.cqOverflow", io_uring_params, cq_off.overflow);
  OFFSET("params.cqCqes", io_uring_params, cq_off.cqes);

  SIZE("ctrlCmd.size", ublksrv_ctrl_cmd);
  OFFSET("ctrlCmd.devId", ublksrv_ctrl_cmd, dev_id);
  OFFSET("ctrlCmd.queueId", ublksrv_ctrl_cmd, queue_id);
  OFFSET("ctrlCmd.len", ublksrv_ctrl_cmd, len);
  OFFSET("ctrlCmd.addr", ublksrv_ctrl_cmd, addr);
  OFFSET("ctrlCmd.data", ublksrv_ctrl_cmd, data);
  OFFSET("ctrlCmd.pathLength", ublksrv_ctrl_cmd, dev_path_len);
  SIZE("devInfo.size", ublksrv_ctrl_dev_info);
  OFFSET("devInfo.queues", ublksrv_ctrl_dev_info, nr_hw_queues);
  OFFSET("devInfo.depth", ublksrv_ctrl_dev_info, queue_depth);
  OFFSET("devInfo.state", ublksrv_ctrl_dev_info, state);
  OFFSET("devInfo.maxIoBytes", ublksrv_ctrl_dev_info, max_io_buf_bytes);
  OFFSET("devInfo.devId", ublksrv_ctrl_dev_info, dev_id);
  OFFSET("devInfo.pid", ublksrv_ctrl_dev_info, ublksrv_pid);
  OFFSET("devInfo.flags", ublksrv_ctrl_dev_info, flags);
  OFFSET("devInfo.mark", ublksrv_ctrl_dev_info, ublksrv_flags);
  SIZE("basic.size", ublk_param_basic);
  SIZE("discard.size", ublk_param_discard);
  OFFSET("parameters.types", ublk_params, types);
  OFFSET("parameters.basic", ublk_params, basic);
  OFFSET("parameters.discard", ublk_params, discard);
  OFFSET("parameters.dma", ublk_params, dma);
  SIZE("ioDesc.size", ublksrv_io_desc);
  OFFSET("ioDesc.opFlags", ublksrv_io_desc, op_flags);
  OFFSET("ioDesc.sectors", ublksrv_io_desc, nr_sectors);
  OFFSET("ioDesc.startSector", ublksrv_io_desc, start_sector);
  SIZE("ioCmd.size", ublksrv_io_cmd);
  OFFSET("ioCmd.result", ublksrv_io_cmd, result);
  OFFSET("ioCmd.addr", ublksrv_io_cmd, addr);
  abi.Set("ioDesc.queueDepthMax", Napi::Number::New(env, UBLK_MAX_QUEUE_DEPTH));

  exports.Set("abi", abi);
}

}  // namespace ublk
