#!/bin/sh
# Builds the addon with the headers of the Node that runs it, where that Node carries them; else node-gyp gets them.
set -eu
cd "$(dirname "$0")"
prefix=$(node -p 'const path = require("node:path"); path.dirname(path.dirname(fs.realpathSync(process.execPath)))')
if [ -e "$prefix/include/node/node_api.h" ]; then
  set -- "--nodedir=$prefix"
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! node-gyp rebuild "$@" >"$log" 2>&1; then
  cat "$log" >&2
  echo "ublk-ts: the native addon did not build: it needs g++ (C++20), make and python3" >&2
  exit 1
fi
