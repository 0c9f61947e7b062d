"""With whom accounts deal: a list of those that are denied, or of those that alone are allowed, as claims compare it.

The text of a list is `-` or `+` and the UUIDs of its accounts with blanks between; it is empty where everybody will do.
"""

from collections.abc import Sequence

from aitbc.kernel.primitives import ids

ANYBODY = ""
DENY, ALLOW = "-", "+"


def terms_text(mode: str, accounts: Sequence[str]) -> str:
    """The text of a list: `deny` these, or `allow` nobody else; denying nobody is no list."""
    if mode == "deny" and not accounts:
        return ANYBODY
    named = " ".join(sorted(str(ids.decode("acct", account)) for account in accounts))
    return f"{DENY if mode == 'deny' else ALLOW}{named}"


def admits(terms: str, account: str) -> bool:
    """Whether a list lets this account in."""
    return not terms or (terms[0] == ALLOW) == (str(ids.decode("acct", account)) in terms)
