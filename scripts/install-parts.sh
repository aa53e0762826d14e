#!/usr/bin/env bash
# Install the Debian packages that some tests need (see docs/operations.md). Safe to run again.
# Without root, sudo or apt it says what is missing; in CI (CI=true) that is a failure.
set -euo pipefail

declare -A programs=(
  [bsdiff]=bsdiff [curl]=curl [debootstrap]=debootstrap [docker-registry]=docker-registry
  [docker.io]=dockerd [faketime]=faketime [iptables]=iptables [mosquitto]=mosquitto
  [netavark]=/usr/lib/podman/netavark [aardvark-dns]=/usr/lib/podman/aardvark-dns
  [openssh-client]=ssh-keygen [openssh-server]=sshd [podman]=podman [postgresql]=pg_ctlcluster
  [systemd]=systemd-analyze [xdelta3]=xdelta3 [zstd]=zstd
)
missing=()
for package in "${!programs[@]}"; do
  PATH="$PATH:/usr/sbin:/sbin" command -v "${programs[$package]}" >/dev/null || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

apt=(apt-get)
[ "$(id -u)" = 0 ] || apt=(sudo -n apt-get)
if command -v apt-get >/dev/null && "${apt[@]}" update -qq &&
  DEBIAN_FRONTEND=noninteractive "${apt[@]}" install -y -qq --no-install-recommends "${missing[@]}"; then
  # Tests start servers of their own; the distribution's services are not wanted.
  declare -A services=(
    [docker.io]="docker.socket docker" [docker-registry]=docker-registry [mosquitto]=mosquitto
    [openssh-server]=ssh [podman]="podman.socket podman" [postgresql]=postgresql
  )
  for package in "${missing[@]}"; do
    for service in ${services[$package]:-}; do
      if command -v systemctl >/dev/null; then
        "${apt[@]/apt-get/systemctl}" disable --now "$service" >/dev/null 2>&1 || true
      fi
    done
  done
  exit 0
fi
echo "not installed: ${missing[*]}. As root, run: apt-get install ${missing[*]}" >&2
if [ "${CI:-}" = true ]; then
  exit 1
fi
echo "the tests that need them will be skipped" >&2
