#!/usr/bin/env bash
# standardwebhooks 1.1.0 (Python): a body given as bytes is signed as the text that Python shows of it, and no error says so.
#
# `Webhook.verify` takes the body as `str` or as `bytes`. `Webhook.sign` takes bytes too, but writes them into the text that is signed
# as `b'…'`: the signature is well-formed, and wrong for every receiver. A sender that has its body as bytes, as HTTP clients want it,
# sends messages that no receiver accepts.
#
# Seen with Python 3.11.7 on 2026-11-28:
#   text accepted, bytes refused: No matching signature found
# What follows here: our messages are signed over bytes by our own code, and tests check them with this package as a receiver.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check standardwebhooks==1.1.0 >&2
"$folder/venv/bin/python" - <<'PY'
import base64
from datetime import UTC, datetime

from standardwebhooks import Webhook, WebhookVerificationError

hook, now, body = Webhook(base64.b64encode(b"k" * 24).decode()), datetime.now(UTC), '{"paid": true}'


def verdict(signature: str) -> str:
    """What a receiver of the body says to this signature."""
    headers = {"webhook-id": "msg_1", "webhook-timestamp": str(int(now.timestamp())), "webhook-signature": signature}
    try:
        hook.verify(body.encode(), headers)
    except WebhookVerificationError as error:
        return f"refused: {error}"
    return "accepted"


seen = f"text {verdict(hook.sign('msg_1', now, body))}, bytes {verdict(hook.sign('msg_1', now, body.encode()))}"
print(seen)
assert seen == "text accepted, bytes refused: No matching signature found", seen
PY
