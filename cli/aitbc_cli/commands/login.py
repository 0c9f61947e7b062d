"""Sign a browser in."""

from aitbc_cli.command import Call, command, noun
from aitbc_cli.output import columns
from aitbc_cli.terminal import say

app = noun("login", "Print a link that signs a browser in, once.", alone=True)


@command(app, "login", examples=["aitbc login", "aitbc login -q"], changes=True)
def login(call: Call) -> None:
    """Print a link that signs one browser in as your key, once and within ten minutes; the key itself stays here."""
    made = call.change("POST", "/api/v1/identity/sign-in-links", natural=True)
    link = {"link": call.where.url.rstrip("/") + made["path"], "expires_at": made["expires_at"]}
    call.out.one(link, columns("link", "expires_at"), name="link")
    say("open it in a browser on this machine; whoever opens it first is signed in")
