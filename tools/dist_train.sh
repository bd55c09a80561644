#!/usr/bin/env bash
# Trains on several GPUs of one or more machines: dist_train.sh CONFIG GPUS [options of train.py]
set -euo pipefail
case "${1:-}" in -h | --help) exec sed -n '2,/^set/s/^# \{0,1\}//p' "$0" ;; esac
config=${1:?usage: dist_train.sh CONFIG GPUS [options]} gpus=${2:?how many GPUs?}
exec torchrun --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" \
  --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}" \
  --nproc_per_node="$gpus" "$(dirname "$0")/train.py" "$config" --launcher pytorch "${@:3}"
