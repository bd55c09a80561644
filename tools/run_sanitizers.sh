#!/usr/bin/env bash
# The tests of our C++ kernels with kernels that GCC's sanitizers watch: reading or writing past the
# end of maps, and what C++ leaves undefined, end the run. Options go to pytest.
set -euo pipefail
case "${1:-}" in -h | --help) exec sed -n '2,/^set/s/^# \{0,1\}//p' "$0" ;; esac
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
skip() {
  echo "sanitizers: skipped, $1"
  exit 0
}
command -v g++ >/dev/null || skip "no g++ is here"
preload=
for library in libasan.so libubsan.so libstdc++.so; do
  file=$(g++ -print-file-name="$library")
  [ -e "$file" ] || skip "g++ has no $library"
  preload="$preload $file"
done
cache=$(mktemp -d)
trap 'rm -rf "$cache"' EXIT
export CXX="g++ -O1 -fsanitize=address,undefined -fno-omit-frame-pointer -g1"
export XDG_CACHE_HOME=$cache PYTHONPATH=.:tests
# First of all, in a process without the sanitizers, under which the compiler would run too.
"$python" tests/compile_sources.py
export ASAN_OPTIONS=detect_leaks=0:halt_on_error=1
export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
# They end the process with a report, which pytest must not hold back.
LD_PRELOAD="$preload" "$python" -m pytest -rs --capture=sys -p no:cacheprovider \
  -n auto --dist loadfile \
  tests/test_rebuild.py tests/test_rebuild_kernel.py tests/test_rebuild_backward_kernel.py \
  tests/test_fast_gate.py \
  tests/test_fast_max_pool.py tests/test_fast_together.py tests/test_fast_squeeze_excite.py tests/test_fast_native_conv.py \
  tests/test_fast_expansion.py tests/test_bfloat16.py \
  tests/test_searches.py "$@"
