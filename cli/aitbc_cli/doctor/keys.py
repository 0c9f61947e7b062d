"""The API key of the command line: it is accepted, and for how long."""

from datetime import timedelta
from typing import Any

from aitbc_cli.doctor.case import Case
from aitbc_cli.doctor.finding import Check, Finding, Unknown, failed, ok, skipped, warning
from aitbc_cli.exits import Stop
from aitbc_cli.times import length, read

SELF = "/api/v1/identity/keys/self"
LIST = "/api/v1/identity/keys"
EXPIRES_SOON = timedelta(days=14)
PAGE_ROWS = 200


def accepted(case: Case) -> Finding:
    """There is a key, and the server knows it."""
    where = case.where
    if where.key is None:
        try:
            case.health()
        except Stop:
            if case.is_local:  # its server will have one for its own user
                return skipped("no key is set, and no server answers that would have made one", case.start)
        where_from = "export AITBC_API_KEY_FILE=FILE  # which `aitbc key create NAME --save FILE` writes"
        return failed(f"no API key for {where.url}", where_from)
    from aitbc.kernel.crypto.api_key import well_formed

    if not well_formed(where.key):
        return failed(f"the key from {where.key_origin} is none: its form or its checksum is wrong", _another(case))
    answer = case.ask(SELF)
    if answer.status == 401:
        return failed(f"the server refuses the key from {where.key_origin}: {answer.detail}", _another(case))
    if answer.status == 403:
        return ok(f"accepted, from {where.key_origin}; it may not read about itself ({answer.detail})")
    body: Any = answer.json()
    if answer.status != 200 or not isinstance(body, dict):
        raise Unknown(answer.detail)
    return ok(f"{body['kind']} key of {body['account']}, from {where.key_origin}; scopes: {' '.join(body['scopes'])}")


def expiry(case: Case) -> Finding:
    """The key works for some time to come."""
    found = _described(case)
    name, ends = found["id"], read(found["expires_at"])
    left = ends - case.now()
    if left < EXPIRES_SOON:
        is_admins = case.where.key_origin == str(case.state / "admin.key")
        fix = case.restart if is_admins else f"aitbc key rotate {name} --save ~/.config/aitbc/key"
        return warning(f"{name} ends in {length(max(left.total_seconds(), 0))}", fix)
    return ok(f"{name} works until {ends:%Y-%m-%d}")


def _described(case: Case) -> dict[str, Any]:
    """What the list of keys says of this one: the newest page first, on to the last."""
    own = case.read(SELF)["key"]
    cursor = None
    while True:
        page = case.read(LIST, limit=PAGE_ROWS, cursor=cursor)
        for row in page["data"]:
            if row["id"] == own:
                return dict(row)
        cursor = page["next_cursor"]
        if not page["has_more"]:
            raise Unknown(f"{own} is not in the list of keys that this key sees")


def _another(case: Case) -> str:
    """How to come to another key, by where this one was found."""
    origin = case.where.key_origin
    if origin.startswith("AITBC_"):
        return f"unset {origin}"
    if origin == str(case.state / "admin.key"):
        return f"rm {origin}; {case.restart}"
    if origin.startswith("profile"):
        return f"aitbc key create NAME --save FILE, and in [profiles.{case.where.profile}]: api_key_file = FILE"
    return "aitbc key create NAME --save FILE, by somebody whose key works; then --api-key-file FILE"


def scopes(case: Case) -> Finding:
    """The key may do what its holder usually wants."""
    body = case.read(SELF)
    held = set(body["scopes"])
    if body["kind"] == "miner":
        return warning("this is the key of a miner: it buys nothing", "unset AITBC_API_KEY AITBC_API_KEY_FILE")
    missing = sorted({"jobs:create", "jobs:read", "ledger:read"} - held)
    if "*" in held or not missing:
        return ok("jobs can be bought, and balances read")
    return skipped(f"this key lacks {', '.join(missing)}, on purpose perhaps", "aitbc key create NAME --save FILE")


CHECKS = (
    Check("key", "the API key is accepted", accepted),
    Check("key-expiry", "how long the API key works", expiry),
    Check("key-scopes", "what the API key may do", scopes),
)
