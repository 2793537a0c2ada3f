/** Where things are. Each place can be moved by an environment variable, for tests and for volumes of other users. */

/** Configuration, one file a volume. */
export function configDirectory(): string {
  return process.env["SLUICE_CONFIG_DIR"] ?? "/etc/sluice";
}

/** What lives only as long as the machine runs: sockets, locks. */
export function runtimeDirectory(): string {
  return process.env["SLUICE_RUNTIME_DIR"] ?? "/run/sluice";
}

/** What must outlive the machine's restart. */
export function stateDirectory(): string {
  return process.env["SLUICE_STATE_DIR"] ?? "/var/lib/sluice";
}

/** Says that the snapshots of a volume are lost, where their store cannot be written. */
export function lossNotePath(name: string): string {
  return `${stateDirectory()}/${name}.snapshots-lost`;
}

/** Where the copy jobs of a volume are noted. */
export function copiesPath(name: string): string {
  return `${stateDirectory()}/${name}.copies`;
}

/** Which parts of a volume its bulk copy is of. */
export function bulkNotePath(name: string): string {
  return `${stateDirectory()}/${name}.bulk`;
}

/** What the source of a mirror knows of its receiver. */
export function mirrorStatePath(name: string): string {
  return `${stateDirectory()}/${name}.mirror`;
}

/** The key of this host, the certificate around it, and the keys of other hosts that it knows. */
export function identityPath(file: "key.pem" | "certificate.pem" | "peers"): string {
  return `${stateDirectory()}/identity/${file}`;
}

export function configPath(name: string): string {
  return `${configDirectory()}/${name}.toml`;
}

export function socketPath(name: string): string {
  return `${runtimeDirectory()}/${name}.sock`;
}

export function lockPath(name: string): string {
  return `${runtimeDirectory()}/${name}.lock`;
}

/** Says that the volume is to be rolled back before it is served. */
export function rollbackPath(name: string): string {
  return `${stateDirectory()}/${name}.rollback`;
}

/** Says that applications were brought to rest for a snapshot, and by which program. */
export function frozenPath(name: string): string {
  return `${runtimeDirectory()}/${name}.frozen`;
}

/** Where a daemon without systemd writes its log. */
export function logPath(name: string): string {
  return `${runtimeDirectory()}/${name}.log`;
}

/** What a receiver has to know of a volume that is mirrored to it. */
export function receiveStatePath(name: string): string {
  return `${stateDirectory()}/receive/${name}.state`;
}

/** Says that the points of such a volume are lost, where their store cannot be written. */
export function receiveLossNotePath(name: string): string {
  return `${stateDirectory()}/receive/${name}.points-lost`;
}

/** What the volume's device was made over. */
export function startedWithPath(name: string): string {
  return `${runtimeDirectory()}/${name}.backing`;
}

/** Tells the udev rule which volume a device belongs to. */
export function devicePropertiesPath(id: number): string {
  return `${runtimeDirectory()}/devices/ublkb${id}`;
}

/** The name under which people find the device. */
export function linkPath(name: string): string {
  return `/dev/sluice/${name}`;
}

/** What a memory volume keeps between two daemons. */
export function memoryPath(name: string): string {
  return `/dev/shm/sluice-${name}`;
}
