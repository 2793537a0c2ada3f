{
  "targets": [
    {
      "target_name": "ublk",
      "sources": ["addon.cc", "abi.cc", "memory.cc", "ring.cc", "system.cc"],
      "include_dirs": ["<!(node -p \"require('node-addon-api').include_dir\")", "include"],
      "defines": ["NAPI_VERSION=9", "NODE_ADDON_API_DISABLE_DEPRECATED"],
      "cflags_cc": ["-std=c++20", "-O2", "-Wall", "-Wextra", "-Werror", "-fno-exceptions"],
      "cflags_cc!": ["-fno-rtti", "-std=gnu++17", "-std=gnu++20"],
      "conditions": [
        ["target_arch=='arm64'", { "cflags_cc": ["-march=armv8.2-a"] }]
      ]
    }
  ]
}
