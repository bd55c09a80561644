#!/usr/bin/env bash
# Builds the site of docs/ into build/site, and runs the notebook that is a page of it. With .venv
# or PYTHON, which wants `pip install -e '.[all,lite,docs]'`. Warnings are errors.
set -euo pipefail
case "${1:-}" in -h | --help) exec sed -n '2,/^set/s/^# \{0,1\}//p' "$0" ;; esac
cd "$(dirname "$0")/.."
python="$(realpath --no-symlinks "${PYTHON:-.venv/bin/python}")"
# Of mkdocs-material itself, about itself.
NO_MKDOCS_2_WARNING=1 exec "$python" -m mkdocs build --strict "$@"
