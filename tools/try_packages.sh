#!/usr/bin/env bash
# Builds sdist and wheel, and tries the wheel that is built from the sdist in an environment and a
# folder of its own, with the packages of .venv (or of PYTHON): the console command, a config by name,
# the trained network, mim's files.
set -euo pipefail
case "${1:-}" in -h | --help) exec sed -n '2,/^set/s/^# \{0,1\}//p' "$0" ;; esac
cd "$(dirname "$0")/.."
python="$(realpath --no-symlinks "${PYTHON:-.venv/bin/python}")"
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT

"$python" -m pip --disable-pip-version-check install --quiet --target "$folder/hatch" hatchling
PYTHONPATH="$folder/hatch" "$python" -m hatchling build --target sdist --directory "$folder/dist"
mkdir "$folder/source"
tar -xf "$folder"/dist/*.tar.gz -C "$folder/source" --strip-components 1
(cd "$folder/source" && PYTHONPATH="$folder/hatch" "$python" -m hatchling build --target wheel \
  --directory "$folder/dist")

"$python" -m venv --without-pip "$folder/venv"
"$python" -m pip --disable-pip-version-check --python "$folder/venv/bin/python" install --quiet \
  --no-deps --no-index "$folder"/dist/*.whl
# By its name alone, a folder is searched and its .pth files are not: the checkout stays away.
"$python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])' \
  >"$(echo "$folder"/venv/lib/python*/site-packages)/shared.pth"

cd "$folder"
export PATH="$folder/venv/bin:$PATH"
# `grep -q` would end at the first match and fail who still writes.
vared-mm --help | grep '^export ' >/dev/null
vared-mm get-flops configs/demo/vared_i3d_motion.py --shape 16 48 48 | grep dense >/dev/null
vared-mm make-motion-clips clips --clips-per-class 1 --val-clips-per-class 1
vared-mm infer clips/val/grow_000.mp4 --json row.json
grep '"label": 7' row.json >/dev/null
vared-mm visualize --only heatmap
test -s work_dirs/pictures/heatmap.png
python - <<'PYTHON'
from pathlib import Path

from mmengine.config import Config

import vared_mm

package = Path(vared_mm.__file__).parent
assert package.is_relative_to(Path.cwd()), package
for name in ("py.typed", ".mim/model-index.yml", ".mim/tools/train.py", ".mim/tools/test.py"):
    assert (package / name).is_file(), name
Path("mine.py").write_text("_base_ = 'vared_mm::demo/i3d_motion.py'")
assert Config.fromfile("mine.py").model.type == "Recognizer3D"
PYTHON
echo "sdist and wheel are whole"
