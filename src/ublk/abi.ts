/**
 * The kernel's interface in numbers: io_uring and ublk, one table of offsets per structure.
 *
 * Sources: include/uapi/linux/io_uring.h and ublk_cmd.h (copies in native/include). All fields are little-endian.
 * COMPILED is compared with the compiler's own sizes and offsets whenever the addon is loaded.
 */

export const SECTOR_BYTES = 512;

/** Offsets in bytes within struct io_uring_sqe. */
export const SQE = {
  opcode: 0,
  fd: 4,
  off: 8,
  cmdOp: 8,
  addr: 16,
  len: 24,
  opFlags: 28,
  userData: 32,
  bufIndex: 40,
  fileIndex: 44,
  cmd: 48,
  size: 64,
} as const;

/** Offsets in bytes within struct io_uring_cqe. */
export const CQE = { userData: 0, res: 8, flags: 12, size: 16 } as const;

/** Offsets in bytes within struct io_uring_params. */
export const PARAMS = {
  sqEntries: 0,
  cqEntries: 4,
  flags: 8,
  features: 20,
  sqHead: 40,
  sqTail: 44,
  sqFlags: 56,
  sqDropped: 60,
  sqArray: 64,
  cqHead: 80,
  cqTail: 84,
  cqOverflow: 96,
  cqCqes: 100,
  size: 120,
} as const;

/** Offsets in bytes within struct ublksrv_ctrl_cmd, the payload of a control command. */
export const CTRL_CMD = { devId: 0, queueId: 4, len: 6, addr: 8, data: 16, pathLength: 24, size: 32 } as const;

/** Offsets in bytes within struct ublksrv_ctrl_dev_info. */
export const DEV_INFO = {
  queues: 0,
  depth: 2,
  state: 4,
  maxIoBytes: 8,
  devId: 12,
  pid: 16,
  flags: 24,
  mark: 32,
  size: 64,
} as const;

/**
 * Offsets in bytes within struct ublk_params. `size` is what Linux 7.2 knows; a kernel that knows less takes its part and
 * leaves out, without a word, the types that it does not know.
 */
export const UBLK_PARAMS = {
  len: 0,
  types: 4,
  attrs: 8,
  logicalShift: 12,
  physicalShift: 13,
  ioOptShift: 14,
  ioMinShift: 15,
  maxSectors: 16,
  chunkSectors: 20,
  devSectors: 24,
  discardAlignment: 40,
  discardGranularity: 44,
  maxDiscardSectors: 48,
  maxWriteZeroesSectors: 52,
  maxDiscardSegments: 56,
  size: 152,
} as const;

/** Offsets in bytes within struct ublksrv_io_desc, one per tag in the mapped descriptor area. */
export const IO_DESC = { opFlags: 0, sectors: 4, startSector: 8, size: 24, queueDepthMax: 4096 } as const;

/** Offsets in bytes within struct ublksrv_io_cmd, the payload of a queue command (queue in the low half of word 0). */
export const IO_CMD = { queueAndTag: 0, result: 4, addr: 8, size: 16 } as const;

/** What the addon's compiler must have seen, by the names that it exports. */
export const COMPILED: Readonly<Record<string, number>> = {
  "sqe.size": SQE.size,
  "sqe.opcode": SQE.opcode,
  "sqe.fd": SQE.fd,
  "sqe.off": SQE.off,
  "sqe.addr": SQE.addr,
  "sqe.len": SQE.len,
  "sqe.opFlags": SQE.opFlags,
  "sqe.userData": SQE.userData,
  "sqe.bufIndex": SQE.bufIndex,
  "sqe.fileIndex": SQE.fileIndex,
  "sqe.cmd": SQE.cmd,
  "sqe.cmdOp": SQE.cmdOp,
  "cqe.size": CQE.size,
  "cqe.userData": CQE.userData,
  "cqe.res": CQE.res,
  "cqe.flags": CQE.flags,
  "params.size": PARAMS.size,
  "params.sqEntries": PARAMS.sqEntries,
  "params.cqEntries": PARAMS.cqEntries,
  "params.flags": PARAMS.flags,
  "params.features": PARAMS.features,
  "params.sqHead": PARAMS.sqHead,
  "params.sqTail": PARAMS.sqTail,
  "params.sqFlags": PARAMS.sqFlags,
  "params.sqDropped": PARAMS.sqDropped,
  "params.sqArray": PARAMS.sqArray,
  "params.cqHead": PARAMS.cqHead,
  "params.cqTail": PARAMS.cqTail,
  "params.cqOverflow": PARAMS.cqOverflow,
  "params.cqCqes": PARAMS.cqCqes,
  "ctrlCmd.size": CTRL_CMD.size,
  "ctrlCmd.devId": CTRL_CMD.devId,
  "ctrlCmd.queueId": CTRL_CMD.queueId,
  "ctrlCmd.len": CTRL_CMD.len,
  "ctrlCmd.addr": CTRL_CMD.addr,
  "ctrlCmd.data": CTRL_CMD.data,
  "ctrlCmd.pathLength": CTRL_CMD.pathLength,
  "devInfo.size": DEV_INFO.size,
  "devInfo.queues": DEV_INFO.queues,
  "devInfo.depth": DEV_INFO.depth,
  "devInfo.state": DEV_INFO.state,
  "devInfo.maxIoBytes": DEV_INFO.maxIoBytes,
  "devInfo.devId": DEV_INFO.devId,
  "devInfo.pid": DEV_INFO.pid,
  "devInfo.flags": DEV_INFO.flags,
  "devInfo.mark": DEV_INFO.mark,
  "basic.size": 32,
  "discard.size": 20,
  "parameters.types": UBLK_PARAMS.types,
  "parameters.basic": 8,
  "parameters.discard": UBLK_PARAMS.discardAlignment,
  "parameters.dma": 108,
  "ioDesc.size": IO_DESC.size,
  "ioDesc.opFlags": IO_DESC.opFlags,
  "ioDesc.sectors": IO_DESC.sectors,
  "ioDesc.startSector": IO_DESC.startSector,
  "ioDesc.queueDepthMax": IO_DESC.queueDepthMax,
  "ioCmd.size": IO_CMD.size,
  "ioCmd.result": IO_CMD.result,
  "ioCmd.addr": IO_CMD.addr,
};

/** io_uring opcodes. */
export const OPCODE = {
  NOP: 0,
  FSYNC: 3,
  POLL_ADD: 6,
  TIMEOUT: 11,
  ASYNC_CANCEL: 14,
  FALLOCATE: 17,
  READ: 22,
  WRITE: 23,
  URING_CMD: 46,
} as const;

/** Flags in the first word of a submission entry. */
export const SQE_FLAG = { FIXED_FILE: 1 } as const;

/** A POLL_ADD that goes on after its first event (IORING_POLL_ADD_MULTI, in the length), and what it polls for (POLLIN). */
export const POLL = { MULTI: 1, IN: 1 } as const;

/** Flags of a completion: its entry will complete again. */
export const CQE_FLAG = { MORE: 2 } as const;

/** Setup flags of a ring. */
export const SETUP = {
  CQSIZE: 0x8,
  CLAMP: 0x10,
  SUBMIT_ALL: 0x80,
  COOP_TASKRUN: 0x100,
  SQE128: 0x400,
  SINGLE_ISSUER: 0x1000,
  DEFER_TASKRUN: 0x2000,
} as const;

export const FEATURE_SINGLE_MMAP = 1;
export const FEATURE_NODROP = 2;
export const ENTER = { GETEVENTS: 1, REGISTERED_RING: 0x10 } as const;
export const SQ_CQ_OVERFLOW = 2;
export const REGISTER = { FILES: 2, EVENTFD: 4, RING_FDS: 20, UNREGISTER_RING_FDS: 21 } as const;
export const OFFSET_SQES = 0x10000000;

export const FSYNC_DATASYNC = 1;
export const RWF_DSYNC = 2;
export const FALLOC = { KEEP_SIZE: 1, PUNCH_HOLE: 2, ZERO_RANGE: 0x10 } as const;
/** _IO(0x12, 0) of linux/blkdev.h (6.12): discard a range of a block device, offset in addr, length in addr3. */
export const BLOCK_URING_CMD_DISCARD = 0x1200;

/** Control commands of ublk, by their ioctl encoding. */
export const CONTROL = {
  GET_QUEUE_AFFINITY: 0x80207501,
  GET_DEV_INFO: 0x80207502,
  ADD_DEV: 0xc0207504,
  DEL_DEV: 0xc0207505,
  START_DEV: 0xc0207506,
  STOP_DEV: 0xc0207507,
  SET_PARAMS: 0xc0207508,
  GET_PARAMS: 0x80207509,
  START_USER_RECOVERY: 0xc0207510,
  END_USER_RECOVERY: 0xc0207511,
  GET_FEATURES: 0x80207513,
  DEL_DEV_ASYNC: 0x80207514,
  UPDATE_SIZE: 0xc0207515,
  QUIESCE_DEV: 0xc0207516,
  TRY_STOP_DEV: 0xc0207517,
} as const;

/** Queue commands of ublk. */
export const IO = { FETCH_REQ: 0xc0107520, COMMIT_AND_FETCH_REQ: 0xc0107521 } as const;

/** Results with which the kernel completes a queue command. */
export const IO_RESULT = { OK: 0, ABORT: -19 } as const;

/** Features of the driver, by bit number. */
export const FEATURE_BITS = {
  SUPPORT_ZERO_COPY: 0,
  URING_CMD_COMP_IN_TASK: 1,
  NEED_GET_DATA: 2,
  USER_RECOVERY: 3,
  USER_RECOVERY_REISSUE: 4,
  UNPRIVILEGED_DEV: 5,
  CMD_IOCTL_ENCODE: 6,
  USER_COPY: 7,
  ZONED: 8,
  USER_RECOVERY_FAIL_IO: 9,
  UPDATE_SIZE: 10,
  AUTO_BUF_REG: 11,
  QUIESCE: 12,
  PER_IO_DAEMON: 13,
  BUF_REG_OFF_DAEMON: 14,
  BATCH_IO: 15,
  INTEGRITY: 16,
  SAFE_STOP_DEV: 17,
  NO_AUTO_PART_SCAN: 18,
  SHMEM_ZC: 19,
  IO_DESC_SIZE: 20,
} as const;

export type Feature = keyof typeof FEATURE_BITS;

/** Which parts of ublk_params are meant, and the attributes of the basic part. */
export const PARAM_TYPE = { BASIC: 1, DISCARD: 2, DEVT: 4 } as const;
export const ATTRIBUTE = { READ_ONLY: 1, ROTATIONAL: 2, VOLATILE_CACHE: 4, FUA: 8 } as const;

/** Flags in op_flags of a descriptor. They are not shifted. */
export const IO_FLAG = { FUA: 0x2000, NOUNMAP: 0x8000 } as const;

/** States of a device, by their number. */
export const DEVICE_STATES = ["dead", "live", "quiesced", "failing"] as const;
export type DeviceState = (typeof DEVICE_STATES)[number];

/** The descriptor area of a queue starts at a multiple of this within /dev/ublkcN. */
export function descriptorOffsetBytes(queue: number, pageBytes: number): number {
  return queue * roundUp(IO_DESC.queueDepthMax * IO_DESC.size, pageBytes);
}

export function roundUp(value: number, unit: number): number {
  return Math.ceil(value / unit) * unit;
}
