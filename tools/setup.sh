#!/usr/bin/env bash
# Makes .venv in the project's root with all that the demo and the tests need; quick when it is
# there already. What a user may choose:
#   PYTHON  the interpreter (python3)
#   TORCH   what to hand to pip for torch, as 'torch==2.13.0 --index-url URL'
#   MMCV    'lite' (default) for the mmcv-lite wheel, 'keep' to use the mmcv that is installed
set -euo pipefail
case "${1:-}" in -h | --help) exec sed -n '2,/^set/s/^# \{0,1\}//p' "$0" ;; esac
cd "$(dirname "$0")/.."

wanted="$(cksum <pyproject.toml) ${TORCH:-} ${MMCV:-lite}"
stamp=.venv/.vared_mm_setup
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then exit 0; fi

[ -x .venv/bin/python ] || "${PYTHON:-python3}" -m venv .venv
pip=(.venv/bin/python -m pip --disable-pip-version-check install --quiet)

if [ -n "${TORCH:-}" ]; then
  echo "setup: installing $TORCH"
  # shellcheck disable=SC2086  # several arguments on purpose
  "${pip[@]}" $TORCH
elif ! .venv/bin/python -c 'import torch' 2>/dev/null; then
  if nvidia-smi >/dev/null 2>&1; then
    echo "setup: a GPU is here, installing torch 2.13.0 with CUDA (some gigabytes)"
    "${pip[@]}" torch==2.13.0
  else
    echo "setup: no GPU is here, installing the CPU build of torch 2.13.0"
    "${pip[@]}" torch==2.13.0+cpu 2>/dev/null || {
      echo "setup: pip's index has no CPU build; taking its default one. To choose another:"
      echo "       TORCH='torch==2.13.0 --index-url URL' bash tools/setup.sh"
      "${pip[@]}" torch==2.13.0
    }
  fi
fi

extras=all,dev
[ "${MMCV:-lite}" = keep ] || extras=$extras,lite
echo "setup: installing vared_mm[$extras] and what it needs"
"${pip[@]}" --editable ".[$extras]"
.venv/bin/python -m vared_mm.doctor >/dev/null 2>&1 || { .venv/bin/python -m vared_mm.doctor; exit 1; }
echo "$wanted" >"$stamp"
