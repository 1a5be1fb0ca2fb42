#!/usr/bin/env bash
# Make the environment $VENV from requirements.lock, every file checked against its sha256.
set -euo pipefail

if ! "$PYTHON" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
  echo "Python 3.11 is needed, and '$PYTHON' is not one." >&2
  echo "Install it (Debian 12: apt-get install python3.11 python3.11-venv; macOS:" >&2
  echo "brew install python@3.11), or say where it is: make PYTHON=/path/to/python3.11" >&2
  exit 1
fi

local_folder="$PWD/.local"
mkdir -p "$local_folder/cache" "$local_folder/tmp"
export PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# uv downloads in parallel; its cache lies beside the environment, so that files are linked
# instead of copied, and is deleted afterwards.
export UV_CACHE_DIR="$local_folder/cache/uv" UV_PYTHON_DOWNLOADS=never
trap 'rm -rf "$UV_CACHE_DIR" "$local_folder/tmp/lock"' EXIT

from_lock() { # NAME...: the lines of single packages of the lock
  for name in "$@"; do
    awk -v name="$name" '
      /^[a-z0-9]/ { taken = index($0, name "==") == 1 }
      taken && !/^ *#/ { print }' requirements.lock
  done
}

if ! "$VENV/bin/python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
  echo "making $VENV"
  rm -rf "$VENV"
  "$PYTHON" -m venv "$VENV"
fi
python="$VENV/bin/python"
# A package index that pip was told of is uv's too.
index="${PIP_INDEX_URL:-$("$python" -m pip config get global.index-url 2>/dev/null || true)}"
if [ -n "$index" ]; then export UV_DEFAULT_INDEX="$index"; fi
# What builds (pyspark comes as source, and we ourselves) comes from the lock too.
from_lock uv setuptools >"$local_folder/tmp/lock"
"$python" -m pip install --quiet --no-deps --require-hashes -r "$local_folder/tmp/lock"
echo "installing $(grep -c '^[a-z0-9].*==' requirements.lock) packages"
"$VENV/bin/uv" pip sync --quiet --python "$python" --require-hashes --no-build-isolation \
  requirements.lock
"$python" -m pip install --quiet --no-deps --no-build-isolation --no-index -e .
touch "$VENV/.installed"
