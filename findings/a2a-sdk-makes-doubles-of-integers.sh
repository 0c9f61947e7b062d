#!/usr/bin/env bash
# a2a-sdk 1.3.0: an integer in a data part or in metadata leaves the client as a double, and a large one as another number.
#
# A2A 1.0 defines its messages as Protocol Buffers; data and metadata are `google.protobuf.Value` and `Struct`, which know numbers as
# doubles alone. The official client builds its JSON from them: 256 is sent as 256.0, which a strict reader of integers refuses, and
# an amount in minor units above 2^53 is sent as its neighbour. Nothing warns.
#
# Seen with protobuf 7.36.2, Python 3.11.7 on 2026-11-28:
#   {"dimensions": 256.0, "units": 9007199254740992.0}
# What follows here: whole doubles in what an A2A client sends are read as integers; amounts of money are texts, never numbers.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check a2a-sdk==1.3.0 protobuf==7.36.2 >&2
"$folder/venv/bin/python" - <<'PY'
import json

from a2a.types import a2a_pb2
from google.protobuf.json_format import MessageToDict, ParseDict

said = {"data": {"dimensions": 256, "units": 2**53 + 1}}
sent = json.dumps(MessageToDict(ParseDict(said, a2a_pb2.Part()))["data"], sort_keys=True)
print(sent)
assert sent == '{"dimensions": 256.0, "units": 9007199254740992.0}', sent
PY
