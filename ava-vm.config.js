// Tests on a real ublk device, as root, in a guest: scripts/test runs each file in a guest of its own.
export default {
  files: ["test/vm/**/*.test.ts"],
  extensions: ["ts"],
  serial: true,
  // An emulated guest is slow; a test that hangs ends with its guest.
  timeout: "60m",
  workerThreads: false,
};
