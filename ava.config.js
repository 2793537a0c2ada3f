// Tests that need no kernel support: they run anywhere. Tests in test/vm run in a guest (ava-vm.config.js).
export default {
  files: ["test/**/*.test.ts", "!test/vm/**"],
  extensions: ["ts"],
  timeout: "2m",
  // A process each: umask and environment belong to the process.
  workerThreads: false,
};
