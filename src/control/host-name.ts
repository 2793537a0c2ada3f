/** What hosts are called among those that know each other. */

const NAME = /^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$/;
export const HOST_NAME_WANTED = "wanted the name of a host: small letters, digits, and . _ - between them";

/** Whether a host may be called so. */
export function isHostName(text: string): boolean {
  return NAME.test(text);
}
