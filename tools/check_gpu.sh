#!/usr/bin/env bash
# All that wants a GPU, in one command of nine minutes. Options: check_gpu.py, and
#   --pack FOLDER    gathers the wheels that a machine with torch and its usual company lacks, for
#                    one without a network, and ends; PYTHON_VERSION (3.12) is that machine's
#   --wheels FOLDER  installs them there first, for this call alone
#   PYTHON           the interpreter that has torch (python3)
set -euo pipefail
case "${1:-}" in -h | --help) exec sed -n '2,/^set/s/^# \{0,1\}//p' "$0" ;; esac
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}

# What torch is rarely without is left out: numpy, pandas, scipy, matplotlib, pillow, einops, rich,
# jinja2, tabulate, tqdm, pytest and its plugins, hypothesis, tensorboard, regex, and OpenCV, whose
# wheel is larger than all of these.
lacking=(
  'mmengine>=0.10.5,<0.11' 'mmcv-lite>=2.0.0,<2.2.0' mmaction2==1.2.0 addict yapf platformdirs
  termcolor decord importlib_metadata zipp 'pydantic>=2.10' annotated-types typing-inspection
  typing-extensions
)

pack() {
  mkdir -p "$1"
  local download=("$python" -m pip --disable-pip-version-check download --quiet --no-deps
    --only-binary=:all: --python-version "${PYTHON_VERSION:-3.12}" --dest "$1")
  "${download[@]}" "${lacking[@]}"
  # pydantic works with one release of its core alone.
  local core
  core=$(unzip -p "$1"/pydantic-*.whl '*/METADATA' | sed -n 's/^Requires-Dist: \(pydantic-core==[^ ;]*\).*/\1/p')
  "${download[@]}" "$core"
  du -ch "$1"/*.whl
}

words=()
while [ $# -gt 0 ]; do
  case $1 in
    --pack) pack "${2:?--pack wants a folder}"; exit ;;
    --wheels) wheels=${2:?--wheels wants the folder that --pack made}; shift 2 ;;
    *) words+=("$1"); shift ;;
  esac
done

site=""
if [ -n "${wheels:-}" ]; then
  site=$(mktemp -d)
  trap 'rm -rf "$site"' EXIT
  # No venv: made from another one, it would not see that one's torch.
  "$python" -m pip --disable-pip-version-check install --quiet --no-index --no-deps --no-compile \
    --target "$site" "$wheels"/*.whl
fi
export PYTHONPATH="$PWD${site:+:$site}${PYTHONPATH:+:$PYTHONPATH}"
"$python" tools/check_gpu.py "${words[@]}"
