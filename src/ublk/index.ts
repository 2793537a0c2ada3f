/** ublk-ts: Linux block devices served from TypeScript. */
export { createDevice, type BlockHandlers, type ServeOptions, type ZeroOptions } from "./serve.ts";
export { Device, DEFAULT_DEPTH, type DeviceOptions, type RecoveryOptions } from "./device.ts";
export { ControlPlane, type CommandOptions, type DeviceInfo, type NewDevice } from "./control.ts";
export { isServed, listDevices, openers, removeDevice, syncBlockDevice, type Opener } from "./devices.ts";
export { errnoByName, errnoName, errnoOf, UblkError } from "./errors.ts";
export { protectProcess } from "./process.ts";
export { Operation, Request, type Layer, type OperationName, type Submission } from "./request.ts";
export { Ring, type RingOptions } from "./ring.ts";
export type { CompletionHandler } from "./io.ts";
export type { DeviceStatistics, OperationStatistics } from "./statistics.ts";
export type { DiscardLimits, Limits, QueueContext, Target, TargetModule, TargetSource } from "./target.ts";
