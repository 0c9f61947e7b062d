"""Enrolment: the key that this machine made for itself, and the owner's one-time token, in return for an API key."""

from typing import Any

from aitbc.kernel.crypto.signing import canonical, enrolment_statement
from aitbc_cli.miner.client import Fields, MinerClient, Refused
from aitbc_cli.miner.home import Home
from aitbc_cli.miner.options import NOT_ENROLLED, MinerFailed, Options
from aitbc_cli.settings import is_same_server

CREDENTIALS: Fields = {
    "miner": str,
    "account": str,
    "fingerprint": str,
    "api_key": str,
    "heartbeat_seconds": (int, float),
}


async def enrolled(options: Options, home: Home, found: dict[str, Any], offer: dict[str, Any]) -> dict[str, Any]:
    """The miner's credentials: those it has, or new ones for its token. Raises `MinerFailed`.

    `found` is the inventory and `offer` the capabilities. Without a definite answer it asks again: the same token and
    key give the same miner.
    """
    known = home.credentials
    if known is not None and is_same_server(known["url"], options.url):
        return known
    if options.token is None:
        raise MinerFailed(NOT_ENROLLED, 4)
    statement = enrolment_statement(token=options.token, public_key=home.key.public)
    body = {
        "token": options.token,
        "public_key": home.key.public,
        "proof": home.key.sign(canonical(statement)),
        "name": options.name,
        "slots": options.slots,
        "capabilities": offer,
        "inventory": found,
    }
    client = MinerClient(options.url)
    try:
        credentials: dict[str, Any] = await client.call_until_answered(
            "POST", "/gpu/enrolments", body, expects=CREDENTIALS
        )
    except Refused as refused:
        raise MinerFailed(f"the enrolment was refused: {refused}", 4 if refused.status in (401, 403) else 5) from None
    finally:
        await client.close()
    credentials["url"] = options.url
    home.keep_credentials(credentials)
    return credentials
