#!/usr/bin/env bash
# Run the tests of what lives on devices on the oldest and the newest Python, each with the
# [edge] extra alone; those marked slow run in `make test` only. A Python that is not here is
# named; in CI (CI=true) that is a failure.
#   test-matrix.sh            install what is not there yet, and run the tests
#   test-matrix.sh --install  only install
set -euo pipefail
cd "$(dirname "$0")/.."

install() { # VENV PYTHON
  local mark=$1/installed
  if [ -e "$mark" ] && [ ! pyproject.toml -nt "$mark" ] && [ ! constraints.txt -nt "$mark" ]; then
    return
  fi
  "$2" -m venv --clear "$1" &&
    "$1/bin/python" -m pip --disable-pip-version-check install --quiet --no-compile \
      --constraint constraints.txt --editable '.[edge,test]' &&
    touch "$mark"
}

failed=()
for version in 3.10 3.13; do
  if ! python=$(scripts/find-python "$version"); then
    if [ "${CI:-}" = true ]; then
      exit 1
    fi
    echo "skipping Python $version: install it (for example: pyenv install $version) and run again" >&2
    continue
  fi
  venv=.venv-$version
  install "$venv" "$python" || exit 1
  [ "${1:-}" != --install ] || continue
  echo "== $("$venv/bin/python" --version)"
  TMPDIR=$(scripts/find-scratch) "$venv/bin/python" -m pytest tests/runtime tests/edge_agent \
    -m "not slow" -n "${TEST_WORKERS:-auto}" --dist worksteal \
    --junitxml "build/reports/matrix-$version.xml" || failed+=("$version")
done
[ ${#failed[@]} -eq 0 ] || { echo "failed on Python ${failed[*]}" >&2; exit 1; }
