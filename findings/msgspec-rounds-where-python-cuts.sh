#!/usr/bin/env bash
# msgspec 0.22.0 and Python read one RFC 3339 time as two: msgspec rounds the seventh digit, `datetime.fromisoformat` cuts it off.
#
# .NET, Go and Windows write times with seven or nine digits of a second. The last moment of a day, as .NET writes it, is for msgspec
# the first moment of the next one: another day, another month, another invoice. PostgreSQL rounds as msgspec does.
#
# Seen with Python 3.11.7 on 2026-11-28, for 2026-11-30T23:59:59.9999999Z:
#   msgspec: 2026-12-01T00:00:00+00:00
#   Python:  2026-11-30T23:59:59.999999+00:00
# What follows here: a time that a client names is read once, by msgspec, and passed on as a value; no text of it is read twice.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check msgspec==0.22.0 >&2
"$folder/venv/bin/python" - <<'PY'
from datetime import datetime

import msgspec

text = "2026-11-30T23:59:59.9999999Z"
rounded, cut = msgspec.convert(text, datetime).isoformat(), datetime.fromisoformat(text).isoformat()
print(f"msgspec: {rounded}", f"Python:  {cut}", sep="\n")
assert (rounded, cut) == ("2026-12-01T00:00:00+00:00", "2026-11-30T23:59:59.999999+00:00"), (rounded, cut)
PY
