/**
 * The daemon's log: a line a message on standard error. Under systemd each line carries its priority as sd-daemon(3) has
 * it, which journald takes off and stores; elsewhere it carries time and level in words. Never used on the data path.
 */
const LEVELS = { error: 3, warning: 4, info: 6, debug: 7 } as const;
export type LogLevel = keyof typeof LEVELS;

const toJournal = (process.env["JOURNAL_STREAM"] ?? "") !== "";
const wanted = process.env["SLUICE_LOG"];
const threshold = wanted !== undefined && Object.hasOwn(LEVELS, wanted) ? LEVELS[wanted as LogLevel] : LEVELS.info;

/** SLUICE_LOG=debug shows more, SLUICE_LOG=error less. */
export function log(level: LogLevel, message: string): void {
  if (LEVELS[level] > threshold) return;
  for (const line of message.split("\n")) {
    const prefix = toJournal ? `<${LEVELS[level]}>` : `${new Date().toISOString()} ${level} `;
    process.stderr.write(`${prefix}${line}\n`);
  }
}
