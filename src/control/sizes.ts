/** Sizes as people write them, the way LVM does: powers of 1024, whether one writes K, KB or KiB. */
const UNITS = ["", "K", "M", "G", "T", "P"] as const;
const PATTERN = /^(\d+(?:\.\d+)?)\s*([KMGTP]?)(?:i?B)?$/i;

/** Bytes for "10GiB", "512M", "4096"; undefined for what is no size or no whole number of bytes. */
export function parseSize(text: string): number | undefined {
  const match = PATTERN.exec(text.trim());
  if (match === null) return undefined;
  const [, amount = "", unit = ""] = match;
  const bytes = Number(amount) * 1024 ** UNITS.indexOf(unit.toUpperCase() as (typeof UNITS)[number]);
  return Number.isSafeInteger(bytes) ? bytes : undefined;
}

/** "1 h 5 min" for 3,900 seconds: the two largest units that matter. */
export function formatDuration(seconds: number): string {
  const minutes = Math.floor(seconds / 60);
  const hours = Math.floor(minutes / 60);
  const days = Math.floor(hours / 24);
  if (days > 0) return `${days} d ${hours % 24} h`;
  if (hours > 0) return `${hours} h ${minutes % 60} min`;
  return minutes > 0 ? `${minutes} min` : `${Math.floor(seconds)} s`;
}

/** "1.5GiB" for 1610612736. */
export function formatSize(bytes: number): string {
  const power = bytes < 1024 ? 0 : Math.min(Math.floor(Math.log2(bytes) / 10), UNITS.length - 1);
  const amount = bytes / 1024 ** power;
  const digits = Number.isInteger(amount) ? 0 : 1;
  return `${amount.toFixed(digits)}${power === 0 ? "B" : `${UNITS[power] ?? ""}iB`}`;
}
