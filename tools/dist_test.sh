#!/usr/bin/env bash
# Tests on several GPUs: dist_test.sh CONFIG CHECKPOINT GPUS [options of test.py]
set -euo pipefail
case "${1:-}" in -h | --help) exec sed -n '2,/^set/s/^# \{0,1\}//p' "$0" ;; esac
usage="usage: dist_test.sh CONFIG CHECKPOINT GPUS [options]"
config=${1:?$usage} checkpoint=${2:?$usage} gpus=${3:?$usage}
exec torchrun --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" \
  --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}" \
  --nproc_per_node="$gpus" "$(dirname "$0")/test.py" "$config" "$checkpoint" \
  --launcher pytorch "${@:4}"
