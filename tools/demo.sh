#!/usr/bin/env bash
# Environment, data, a short training of a dynamic I3D and of its static twin, test, one table.
# Finished parts are kept: a second call goes on where the first one stopped. Options: demo.py.
set -euo pipefail
case "${1:-}" in -h | --help) exec sed -n '2,/^set/s/^# \{0,1\}//p' "$0" ;; esac
cd "$(dirname "$0")/.."
bash tools/setup.sh
exec .venv/bin/python tools/demo.py "$@"
