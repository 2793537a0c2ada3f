/** What the daemon tells systemd (sd_notify(3)): a datagram to the socket that NOTIFY_SOCKET names. */
import { messageOf } from "../ublk/errors.ts";
import { native } from "../ublk/native.ts";
import { log } from "./log.ts";

/** Sends assignments such as "READY=1". Nothing happens where nobody asked to be told. */
export function notifyManager(...assignments: readonly string[]): void {
  const socket = process.env["NOTIFY_SOCKET"];
  if (socket === undefined || socket === "") return;
  try {
    native.sendDatagram(socket, assignments.join("\n"));
  } catch (error) {
    log("warning", `Cannot notify the service manager: ${messageOf(error)}`);
  }
}

/** Milliseconds between two signs of life that systemd wants: half of its patience. Undefined where it wants none. */
export function watchdogIntervalMs(): number | undefined {
  const us = Number(process.env["WATCHDOG_USEC"]);
  return Number.isFinite(us) && us > 0 ? us / 2000 : undefined;
}
