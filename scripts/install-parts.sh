#!/usr/bin/env bash
# Install the Debian packages that some tests need (see docs/operations.md). Safe to run again.
# Without root, sudo or apt it says what is missing; in CI (CI=true) that is a failure.
set -euo pipefail

declare -A programs=([curl]=curl [faketime]=faketime [mosquitto]=mosquitto)
missing=()
for package in "${!programs[@]}"; do
  PATH="$PATH:/usr/sbin:/sbin" command -v "${programs[$package]}" >/dev/null || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

apt=(apt-get)
[ "$(id -u)" = 0 ] || apt=(sudo -n apt-get)
if command -v apt-get >/dev/null && "${apt[@]}" update -qq &&
  DEBIAN_FRONTEND=noninteractive "${apt[@]}" install -y -qq --no-install-recommends "${missing[@]}"; then
  # Tests start brokers of their own on free ports; the distribution's service is not wanted.
  if [[ " ${missing[*]} " == *" mosquitto "* ]] && command -v systemctl >/dev/null; then
    "${apt[@]/apt-get/systemctl}" disable --now mosquitto >/dev/null 2>&1 || true
  fi
  exit 0
fi
echo "not installed: ${missing[*]}. As root, run: apt-get install ${missing[*]}" >&2
if [ "${CI:-}" = true ]; then
  exit 1
fi
echo "the tests that need them will be skipped" >&2
