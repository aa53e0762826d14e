#!/usr/bin/env bash
# Make the image that the tests' containers stand on, build/parts/base-SUITE.tar, unless it is there:
# a small Debian or Ubuntu, like this one, with Python. Prints its path. Needs root and debootstrap.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH="$PATH:/usr/sbin:/sbin"

suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
made=$PWD/build/parts/base-$suite.tar
mkdir -p build/parts
exec 9>build/parts/lock
flock 9 # all processes of the tests want it at once
if [ ! -e "$made" ]; then
  # Thousands of small files, each of which dpkg would wait to see on a disk.
  scratch=$(TMPDIR=$(scripts/find-scratch) mktemp --directory --suffix=-packhorse-base)
  trap 'rm -rf "$scratch"' EXIT
  if ! debootstrap --variant=minbase --include=python3 "$suite" "$scratch/root" >"$scratch/log" 2>&1; then
    echo "debootstrap failed: $(tail -n 5 "$scratch/log")" >&2
    exit 1
  fi
  useless=()
  for each in 'proc/*' 'sys/*' 'dev/*' 'var/cache/apt/*' 'var/lib/apt/lists/*' \
    'usr/share/doc/*' 'usr/share/man/*' 'usr/share/locale/*'; do
    useless+=("--exclude=./$each")
  done
  # Sorted: which of two names of one file comes first shall not rest on the file system.
  tar --directory "$scratch/root" --sort=name "${useless[@]}" --create --file "$made.tmp" .
  mv "$made.tmp" "$made"
fi
echo "$made"
