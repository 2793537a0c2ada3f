/**
 * Node's HTTP, for those who ask by it and those who answer. An import of "node:http" gives every name that the module has a
 * value at once, and for some of them Node loads all of its fetch(), which nobody here uses: a third of a command's time.
 */

/** The module "node:http", loaded at the first call. */
export function http(): typeof import("node:http") {
  return process.getBuiltinModule("node:http");
}
