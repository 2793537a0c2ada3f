/**
 * When a write of a mirrored volume is answered, and what is done when the receiver is away. On the wire each is its place here,
 * from 1 on: add at the end only.
 */

/** When it is in the store here; when the remote has it in memory as well; when it has it durably. */
export const MIRROR_MODES = ["async", "memory", "sync"] as const;
export type MirrorMode = (typeof MIRROR_MODES)[number];
/** What is done when the log is full, or the link is down in the modes that wait for it. */
export const MIRROR_POLICIES = ["continue", "stop"] as const;
export type MirrorPolicy = (typeof MIRROR_POLICIES)[number];
