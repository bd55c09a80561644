#!/usr/bin/env bash
# Environment, format, lint, types, import directions and tests, with the reasons of those that are
# skipped. Options go to pytest.
set -euo pipefail
case "${1:-}" in -h | --help) exec sed -n '2,/^set/s/^# \{0,1\}//p' "$0" ;; esac
cd "$(dirname "$0")/.."
bash tools/setup.sh
.venv/bin/ruff format --check .
.venv/bin/ruff check .
.venv/bin/mypy
.venv/bin/lint-imports
# One process for each core; the tests of a file share what they train and stay together, long files
# first (conftest.py), which xdist would put behind those of many tests. A test that ends its process
# ends the run: with another one in its place, pytest-xdist 3.8 waited for ever.
exec .venv/bin/python -m pytest -rs -n auto --dist loadfile --no-loadscope-reorder \
  --max-worker-restart 0 "$@"
