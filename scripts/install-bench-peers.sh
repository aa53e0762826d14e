#!/usr/bin/env bash
# Install the servers that `make bench-serve` compares ours to, each in a virtual environment of its
# own below build/bench-peers/. A peer that does not install is named and left out. Safe to run again.
#   install-bench-peers.sh [NAME…]     mlserver, kserve, triton; all of them by default
set -euo pipefail
cd "$(dirname "$0")/.."

home=build/bench-peers
# All run the same onnxruntime as we do.
onnxruntime=$(.venv/bin/python -c 'import onnxruntime; print(onnxruntime.__version__)')
declare -A packages=(
  # A newer uvloop has no current event loop in MLServer's worker process: it would not start.
  [mlserver]="mlserver==1.7.1 uvloop<0.22"
  [kserve]="kserve==0.21.0"
  # The wheel brings a real tritonserver 2.51, with the Python backend alone.
  [triton]="nvidia-pytriton==0.7.0"
)

python_of() { # Triton's backend loads the libpython3.11 of the system, so it must be that Python
  if [ "$1" = triton ]; then
    [ -e "/usr/lib/$(uname -m)-linux-gnu/libpython3.11.so.1.0" ] || {
      echo "its backend needs Debian's libpython3.11" >&2
      return 1
    }
    command -v /usr/bin/python3.11
  else
    readlink -f .venv/bin/python
  fi
}

install() {
  local name=$1 venv=$home/$1 python wanted
  wanted="${packages[$name]} onnxruntime==$onnxruntime"
  [ "$(cat "$venv/installed" 2>/dev/null)" != "$wanted" ] || return 0
  echo "installing $name into $venv"
  python=$(python_of "$name") || return 1
  "$python" -m venv --clear "$venv" || return 1
  # shellcheck disable=SC2086 # several packages
  "$venv/bin/python" -m pip --disable-pip-version-check install --quiet $wanted || return 1
  echo "$wanted" >"$venv/installed"
}

mkdir -p "$home"
left_out=()
[ $# -gt 0 ] || set -- mlserver kserve triton
for name in "$@"; do
  [ -n "${packages[$name]:-}" ] || { echo "no peer is called $name: use ${!packages[*]}" >&2; exit 2; }
  install "$name" || left_out+=("$name")
done
[ ${#left_out[@]} -eq 0 ] || echo "not installed, so left out: ${left_out[*]}" >&2
