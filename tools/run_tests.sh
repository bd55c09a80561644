#!/usr/bin/env bash
# Environment, format, lint, types, import directions and tests, with the reasons of those that are
# skipped. Options go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
bash tools/setup.sh
.venv/bin/ruff format --check .
.venv/bin/ruff check .
.venv/bin/mypy
.venv/bin/lint-imports
# One process for each core; the tests of a file share what they train and stay together.
exec .venv/bin/python -m pytest -rs -n auto --dist loadfile "$@"
