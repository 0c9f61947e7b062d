"""Enrolment by a code: this machine makes a token of its own, shows a code, and waits until its owner approved it."""

import time
from pathlib import Path

from aitbc.kernel.crypto.api_key import new_key
from aitbc_cli.command import Call
from aitbc_cli.exits import NOT_ALLOWED, Stop
from aitbc_cli.miner.home import Home
from aitbc_cli.terminal import say

CODES = "/api/v1/gpu/enrolment-codes"


def approved_token(call: Call, folder: Path, name: str) -> str:
    """A token that enrols this machine, once its owner approved the code. Raises `Stop`."""
    home = Home(folder)
    try:
        public_key = home.key.public
    finally:
        home.close()
    body = {"token": new_key("enrol"), "public_key": public_key, "name": name}
    server = call.api_for(None)  # people take their time, and the code has an end
    asked = server.ask(CODES, body)
    say(f"approve this machine at {call.where.url}{asked['path']}")
    say(f"or with: aitbc miner approve {asked['code']}   (its key is {asked['fingerprint']})")
    while asked["state"] == "waiting":
        time.sleep(asked["poll_seconds"])
        asked = server.ask(CODES, body)
    if asked["state"] != "approved":
        raise Stop(f"the code was {asked['state']}", exit_code=NOT_ALLOWED, code="miner_failed")
    return str(body["token"])
