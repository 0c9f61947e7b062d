#!/usr/bin/env bash
# wordllama 0.4.0.post1: with norm=True, a text without a token becomes a vector of NaN, and so does its similarity to anything.
#
# The mean over no tokens is a vector of zeros, which is divided by its length. NumPy warns once on standard error; the vector comes
# back among good ones. NaN is no JSON: what encodes it strictly fails for the whole batch, what does not writes a word that the
# reader cannot parse.
#
# Seen with Python 3.11.7, NumPy 2.4.6 on 2026-11-28:
#   norm=False: [0.0, 0.0], norm=True: [nan, nan]
# What follows here: the miner's executor divides by a length that is never 0, and an empty text has a vector of zeros.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check wordllama==0.4.0.post1 numpy==2.4.6 >&2
HOME=$folder "$folder/venv/bin/python" -W ignore - <<'PY'
from pathlib import Path

import wordllama

model = wordllama.WordLlama.load(cache_dir=Path(wordllama.__file__).parent, disable_download=True)
plain, normal = model.embed(["", "hello"]), model.embed(["", "hello"], norm=True)
seen = f"norm=False: {plain[0][:2].tolist()}, norm=True: {normal[0][:2].tolist()}"
print(seen)
assert seen == "norm=False: [0.0, 0.0], norm=True: [nan, nan]", seen
assert abs(float(normal[1] @ normal[1]) - 1) < 1e-5
PY
