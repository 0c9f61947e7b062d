#!/usr/bin/env bash
# wordllama 0.4.0.post1: `WordLlama.load()` wants the network for a tokenizer that its own wheel holds.
#
# The wheel has the weights (weights/l2_supercat_256.safetensors) and the tokenizer (tokenizers/l2_supercat_tokenizer_config.json).
# Without arguments `load` finds the weights and looks for the tokenizer in a cache folder alone; on a machine without a network it
# fails. Told that its cache is the package's own folder, it loads both, and may be forbidden to download.
#
# Seen with Python 3.11.7 on 2026-11-28, with a proxy that refuses:
#   load(): FileNotFoundError
#   load(cache_dir=the package): 256 dimensions
# What follows here: the miner's executor for embeddings loads it that way; a miner needs no network but the server's.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check wordllama==0.4.0.post1 >&2
HOME=$folder HTTPS_PROXY=http://127.0.0.1:9 "$folder/venv/bin/python" - <<'PY'
from pathlib import Path

import wordllama
from wordllama import WordLlama

package = Path(wordllama.__file__).parent
held = [package / "weights/l2_supercat_256.safetensors", package / "tokenizers/l2_supercat_tokenizer_config.json"]
assert all(file.exists() for file in held), held
try:
    WordLlama.load()
    alone = "loaded"
except OSError as error:
    alone = type(error).__name__
shape = WordLlama.load(cache_dir=package, disable_download=True).embed(["hello"]).shape
print(f"load(): {alone}", f"load(cache_dir=the package): {shape[1]} dimensions", sep="\n")
assert (alone, shape) == ("FileNotFoundError", (1, 256)), (alone, shape)
PY
