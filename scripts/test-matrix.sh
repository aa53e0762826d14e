#!/usr/bin/env bash
# Run the tests of what lives on devices on the oldest and the newest Python, each with the
# [edge] extra alone; those marked slow run in `make test` only. A Python that is not here is
# named; in CI (CI=true) that is a failure.
set -euo pipefail
cd "$(dirname "$0")/.."

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
  if [ ! -e "$venv/installed" ] || [ pyproject.toml -nt "$venv/installed" ] || [ constraints.txt -nt "$venv/installed" ]; then
    "$python" -m venv --clear "$venv"
    "$venv/bin/python" -m pip --disable-pip-version-check install --quiet \
      --constraint constraints.txt --editable '.[edge,test]'
    touch "$venv/installed"
  fi
  echo "== $("$venv/bin/python" --version)"
  TMPDIR=$(scripts/find-scratch) "$venv/bin/python" -m pytest tests/runtime tests/edge_agent -m "not slow" \
    -n "${TEST_WORKERS:-auto}" --dist worksteal --junitxml "build/reports/matrix-$version.xml" ||
    failed+=("$version")
done
[ ${#failed[@]} -eq 0 ] || { echo "failed on Python ${failed[*]}" >&2; exit 1; }
