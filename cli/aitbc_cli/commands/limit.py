"""Rate limits."""

from typing import Annotated, Any

import typer

from aitbc_cli.client import part
from aitbc_cli.command import Call, command, noun
from aitbc_cli.exits import NOT_FOUND
from aitbc_cli.output import Column, columns

PATH = "/api/v1/ai/rate-limits"
SHOWN = (
    *columns("id", "key", "model"),
    Column("REQUESTS/MIN", "requests_per_minute", "number"),
    Column("TOKENS/MIN", "tokens_per_minute", "number"),
    Column("AT ONCE", "concurrency", "number"),
    *columns("by_operator", "account"),
)
app = noun("limit", "Rate limits: how much is asked at a time, by key and model.")


@command(
    app,
    "set",
    examples=[
        "aitbc limit set --requests 600",
        "aitbc limit set --tokens 100000 --key key_01…",
        "aitbc limit set --concurrency 4 --model llama-3-8b",
    ],
    changes=True,
)
def make(
    call: Call,
    requests: Annotated[int | None, typer.Option("--requests", min=1, help="The most requests in a minute.")] = None,
    tokens: Annotated[
        int | None, typer.Option("--tokens", min=1, help="The most tokens in a minute, of requests of /v1.")
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option("--concurrency", min=1, help="The most requests of /v1 at once.")
    ] = None,
    key: Annotated[str | None, typer.Option("--key", metavar="KEY", help="Only requests of this API key.")] = None,
    model: Annotated[str | None, typer.Option("--model", help="Only requests for this model.")] = None,
    account: Annotated[
        str | None, typer.Option("--account", metavar="ACCOUNT", help="Whom it limits (admins); else yourself.")
    ] = None,
) -> None:
    """Limit requests, tokens or both in a minute, or how many requests go on at once."""
    wishes: dict[str, Any] = {"requests_per_minute": requests, "tokens_per_minute": tokens, "concurrency": concurrency}
    wishes |= {"key": key, "model": model, "account": account}
    body = {name: value for name, value in wishes.items() if value is not None}
    call.out.one(call.change("POST", PATH, body), SHOWN)


@command(app, "list", examples=["aitbc limit list", "aitbc limit list --json --fields id,model"], lists=True)
def list_limits(call: Call) -> None:
    """List the rate limits on your account; admins see those of all accounts."""
    call.list(PATH, SHOWN)


@command(app, "remove", examples=["aitbc limit remove rlim_01…"], changes=True, ends=[NOT_FOUND])
def remove(
    call: Call, rate_limit: Annotated[str, typer.Argument(metavar="LIMIT", help="The limit's id, rlim_….")]
) -> None:
    """Limit nothing by a rate limit any more. What an operator set only operators remove."""
    call.out.one(call.change("DELETE", f"{PATH}/{part(rate_limit)}", natural=True), SHOWN)
