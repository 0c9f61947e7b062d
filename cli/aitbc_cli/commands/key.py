"""API keys."""

from typing import Annotated, Any

import typer

from aitbc_cli.client import part
from aitbc_cli.command import Call, command, noun
from aitbc_cli.exits import NOT_FOUND
from aitbc_cli.id_completion import ACCOUNTS, KEYS
from aitbc_cli.output import columns
from aitbc_cli.terminal import say
from aitbc_cli.times import seconds_of

PATH = "/api/v1/identity/keys"
SHOWN = columns("id", "kind", "name", "prefix", "account", "created_at", "expires_at", "revoked_at")
KeyId = Annotated[str, typer.Argument(metavar="KEY", help="The key's id, key_…", autocompletion=KEYS)]
SaveTo = Annotated[
    str | None, typer.Option("--save", metavar="FILE", help="Write the secret here, readable by you only.")
]
app = noun("key", "API keys: made, listed, rotated, revoked. A secret is shown once, when its key is made.")


@command(
    app,
    "create",
    examples=[
        "aitbc key create laptop --save ~/.config/aitbc/key",
        "aitbc key create ci --scope jobs:read --expires 30d",
    ],
    changes=True,
    ends=[NOT_FOUND],
)
def create(
    call: Call,
    name: Annotated[str, typer.Argument(help="What people call it.")],
    kind: Annotated[str, typer.Option("--kind", help="live, test or admin.")] = "live",
    account: Annotated[
        str | None, typer.Option("--account", help="Whose key; admins may name another.", autocompletion=ACCOUNTS)
    ] = None,
    scope: Annotated[
        list[str] | None, typer.Option("--scope", help="What it may do, noun:action; again for more.")
    ] = None,
    expires: Annotated[
        str | None,
        typer.Option("--expires", metavar="TIME", help="How long it works, in days; else 90, or as long as yours."),
    ] = None,
    save: SaveTo = None,
) -> None:
    """Make an API key. Its secret is printed this one time, or written to a file."""
    body: dict[str, Any] = {"name": name, "kind": kind}
    if expires is not None:
        body["expires_in_days"] = max(round(seconds_of(expires) / 86_400), 1)
    if account is not None:
        body["account"] = account
    if scope:
        body["scopes"] = scope
    _hand_over(call, call.change("POST", PATH, body), save)


@command(app, "list", examples=["aitbc key list", "aitbc key list --json --fields id,name,expires_at"], lists=True)
def list_keys(
    call: Call,
    account: Annotated[str | None, typer.Option("--account", help="Whose.", autocompletion=ACCOUNTS)] = None,
) -> None:
    """List API keys, without their secrets."""
    call.list(PATH, SHOWN, account=account)


@command(
    app, "rotate", examples=["aitbc key rotate key_01… --save new.key --overlap 1h"], changes=True, ends=[NOT_FOUND]
)
def rotate(
    call: Call,
    key: KeyId,
    overlap: Annotated[
        str, typer.Option("--overlap", metavar="TIME", help="How long the old one still works.")
    ] = "24h",
    save: SaveTo = None,
) -> None:
    """Make a successor with the same rights; the old key works until the overlap ends."""
    body = {"overlap_seconds": round(seconds_of(overlap))}
    _hand_over(call, call.change("POST", f"{PATH}/{part(key)}/rotate", body), save)


@command(app, "revoke", examples=["aitbc key revoke key_01… --yes"], changes=True, ends=[NOT_FOUND])
def revoke(call: Call, key: KeyId) -> None:
    """End a key: it is refused everywhere within a second."""
    call.confirm(f"End {key}? Whoever uses it is locked out at once.")
    call.out.one(call.change("POST", f"{PATH}/{part(key)}/revoke", natural=True), SHOWN)


@command(app, "whoami", examples=["aitbc key whoami", "aitbc key whoami -q"])
def whoami(call: Call) -> None:
    """Show which key is used, where it was found, and what it may do."""
    answer = call.api.get(f"{PATH}/self")
    answer |= {"url": call.where.url, "url_origin": call.where.url_origin, "key_origin": call.where.key_origin}
    shown = columns("account", "key", "kind", "scopes", "miner", "url", "url_origin", "key_origin")
    call.out.one(answer, shown, name="account")


def _hand_over(call: Call, issued: dict[str, Any], save: str | None) -> None:
    """Give the secret to its owner: on standard output, or in a file that nobody else can read."""
    if save is not None:
        from aitbc_cli import files

        files.save(save, [f"{issued['secret']}\n".encode()], private=True)
        issued = {name: value for name, value in issued.items() if name != "secret"}
        say(f"the secret is in {save}; use it with AITBC_API_KEY_FILE={save}")
        call.out.one(issued, SHOWN[:-1])
        return
    call.out.one(issued, (*SHOWN[:-1], *columns("secret")))
    say("this secret is not shown again")
