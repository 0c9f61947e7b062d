"""Governance: proposals, votes, what they change, and the treasury."""

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from aitbc_cli.client import part
from aitbc_cli.command import Call, command, noun
from aitbc_cli.exits import NOT_FOUND, Stop, usage
from aitbc_cli.id_completion import PROPOSALS
from aitbc_cli.output import columns

PATH = "/api/v1/governance"
BRIEF = columns("id", "state", "class", "title", "voting_starts", "voting_ends")
WAITING = columns("id", "class", "title", "executes_at", "expires_at")
FULL = (
    *columns("id", "state", "class", "title", "text", "actions", "ballot", "options", "tally", "outcome"),
    *columns("voting_starts", "voting_ends", "executes_at", "expires_at", "failure", "reason", "deposit", "digest"),
)
VOTE = columns("proposal", "voter", "choice", "units", "own", "reason", "cast_at")
PARAMETER = columns("name", "value", "unit", "origin", "least", "most", "source")
TREASURY = columns("account", "balance", "promised", "available", "fee_share_basis_points", "lines")
REPORT = columns("since", "until", "total_received", "total_paid", "received", "paid", "movements")
MOVE = columns("id", "purpose", "amount", "account", "line", "title", "state", "due_at", "done_at")
SIMULATION = (
    *columns("proposal", "since", "until", "receipts", "is_complete", "changes", "before", "after"),
    *columns("priced_out_jobs", "priced_out_payers", "fill_basis_points", "unknown"),
)
Which = Annotated[str, typer.Argument(metavar="PROPOSAL", help="Which, prop_…", autocompletion=PROPOSALS)]
Reason = Annotated[str, typer.Option("--reason", help="Why, in your words.")]
Option = Annotated[list[int] | None, typer.Option("--option", help="An option by its number from 0; repeatable.")]
Weight = Annotated[list[int] | None, typer.Option("--weight", help="Beside each --option, how much; repeatable.")]
app = noun("gov", "Governance: propose, vote, and see what it changes.")


@command(app, "list", examples=["aitbc gov list", "aitbc gov list --state active"], lists=True)
def list_proposals(
    call: Call,
    state: Annotated[str | None, typer.Option("--state", help="Only those in this state.")] = None,
    class_: Annotated[str | None, typer.Option("--class", help="parameters, funding, general or emergency.")] = None,
) -> None:
    """List proposals, newest first."""
    query: dict[str, Any] = {"state": state, "class": class_}
    call.list(f"{PATH}/proposals", BRIEF, **query)


@command(app, "show", examples=["aitbc gov show prop_01…"], ends=[NOT_FOUND])
def show(call: Call, proposal: Which) -> None:
    """Show a proposal: what it would do, and what was voted."""
    call.out.one(call.api.get(f"{PATH}/proposals/{part(proposal)}"), FULL)


@command(
    app,
    "propose",
    examples=[
        "aitbc gov propose 'Lower the fee' --set trading.fee_basis_points=200",
        "aitbc gov propose 'A grant' --class funding --pay acct_01…=300 --line grants --parts 3",
        "aitbc gov propose 'Which colour?' --ballot ranked --choice Red --choice Blue",
    ],
    changes=True,
)
def propose(
    call: Call,
    title: Annotated[str, typer.Argument(help="In a few words.")],
    text: Annotated[str, typer.Option("--text", help="Why.")] = "",
    class_: Annotated[str | None, typer.Option("--class", help="parameters, funding, general or emergency.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="PARAMETER=VALUE; repeatable.")] = None,
    budget: Annotated[list[str] | None, typer.Option("--budget", help="LINE=LIMIT, in AITBC; repeatable.")] = None,
    pay: Annotated[str | None, typer.Option("--pay", help="ACCOUNT=AMOUNT, from --line.")] = None,
    line: Annotated[str, typer.Option("--line", help="The budget line of --pay.")] = "grants",
    parts: Annotated[int, typer.Option("--parts", help="In how many parts --pay is paid.")] = 1,
    every_seconds: Annotated[int, typer.Option("--every-seconds", help="The time between parts.")] = 2_592_000,
    milestone: Annotated[list[str] | None, typer.Option("--milestone", help="TITLE=AMOUNT; repeatable.")] = None,
    pause: Annotated[str | None, typer.Option("--pause", help="A module whose new business is to stop.")] = None,
    resume: Annotated[str | None, typer.Option("--resume", help="A module that is to take new business.")] = None,
    allow: Annotated[str | None, typer.Option("--allow-plugin", help="A plugin that may run here.")] = None,
    withdraw: Annotated[str | None, typer.Option("--withdraw-plugin", help="One that may not any more.")] = None,
    ballot: Annotated[str, typer.Option("--ballot", help="basic, or single, approval, weighted, ranked …")] = "basic",
    choice: Annotated[list[str] | None, typer.Option("--choice", help="What there is to choose; repeatable.")] = None,
) -> None:
    """Propose something. A deposit is taken, which goes back when the proposal passes."""
    actions: list[dict[str, Any]] = []
    for name, value in _pairs("--set", set_):
        actions.append({"do": "set_parameter", "name": name, "value": _whole(value)})
    actions += [{"do": "set_budget", "line": name, "limit": limit} for name, limit in _pairs("--budget", budget)]
    for to, amount in _pairs("--pay", None if pay is None else [pay]):
        steps = [{"title": name, "amount": part_} for name, part_ in _pairs("--milestone", milestone)]
        paid = {"do": "pay", "to": to, "line": line, "amount": amount, "parts": parts, "every_seconds": every_seconds}
        actions.append(paid | {"milestones": steps})
    actions += [{"do": "pause_module", "module": pause}] if pause else []
    actions += [{"do": "resume_module", "module": resume}] if resume else []
    actions += [{"do": "allow_plugin", "plugin": allow}] if allow else []
    actions += [{"do": "withdraw_plugin", "plugin": withdraw}] if withdraw else []
    if class_ is None:
        class_ = "general" if not actions else "funding" if budget or pay else "parameters"
    body = {"title": title, "text": text, "class": class_, "actions": actions, "ballot": ballot}
    body["options"] = choice or []
    call.out.one(call.change("POST", f"{PATH}/proposals", body), FULL)


@command(
    app,
    "vote",
    examples=["aitbc gov vote prop_01… for", "aitbc gov vote prop_01… --option 1 --option 0"],
    changes=True,
    ends=[NOT_FOUND],
)
def vote(
    call: Call,
    proposal: Which,
    choice: Annotated[str | None, typer.Argument(help="for, against or abstain.")] = None,
    option: Option = None,
    weight: Weight = None,
    reason: Reason = "",
) -> None:
    """Vote, with the power that you had when voting started. A vote is for good."""
    body = _said(choice, option, weight) | {"reason": reason}
    found = call.change("PUT", f"{PATH}/proposals/{part(proposal)}/vote", body, natural=True)
    call.out.one(found, VOTE, name="proposal")


@command(app, "votes", examples=["aitbc gov votes prop_01…"], lists=True, ends=[NOT_FOUND])
def votes(call: Call, proposal: Which) -> None:
    """List the votes on a proposal."""
    call.list(f"{PATH}/proposals/{part(proposal)}/votes", VOTE, name="voter")


@command(app, "delegate", examples=["aitbc gov delegate acct_01…"], changes=True)
def delegate(call: Call, account: Annotated[str, typer.Argument(metavar="ACCOUNT", help="Who, acct_…")]) -> None:
    """Let one account vote with all of your power; `aitbc stake delegate` also knows shares."""
    body = {"shares": [{"to": account, "basis_points": 10_000}]}
    found = call.change("PUT", f"{PATH}/stake/delegations", body, natural=True)
    call.out.one(found, columns("account", "power", "own", "received", "delegations"), name="power")


@command(app, "sponsor", examples=["aitbc gov sponsor prop_01…"], changes=True, ends=[NOT_FOUND])
def sponsor(call: Call, proposal: Which) -> None:
    """Support a proposal with your power, so that voting on it can start."""
    call.out.one(call.change("PUT", f"{PATH}/proposals/{part(proposal)}/sponsor", natural=True), BRIEF)


@command(app, "cancel", examples=["aitbc gov cancel prop_01… --reason 'A better one follows.'"], changes=True)
def cancel(call: Call, proposal: Which, reason: Reason = "") -> None:
    """Take a proposal of yours back before voting ends."""
    _act(call, proposal, "cancel", {"reason": reason})


@command(app, "veto", examples=["aitbc gov veto prop_01… --reason 'No.'"], changes=True)
def veto(call: Call, proposal: Which, reason: Reason = "") -> None:
    """Stop a proposal before its execution begins (guardians)."""
    _act(call, proposal, "veto", {"reason": reason})


@command(app, "queue", examples=["aitbc gov queue"], lists=True)
def queue(call: Call) -> None:
    """List what was decided and waits for its timelock; the platform queues it by itself."""
    call.list(f"{PATH}/proposals", WAITING, state="queued")


@command(app, "execute", examples=["aitbc gov execute prop_01…"], changes=True)
def execute(call: Call, proposal: Which) -> None:
    """Execute a proposal whose timelock is over (admins); the platform does it by itself, this tries it again."""
    _act(call, proposal, "execute", None)


@command(app, "simulate", examples=["aitbc gov simulate prop_01… --days 30"], ends=[NOT_FOUND])
def simulate(
    call: Call, proposal: Which, days: Annotated[int, typer.Option("--days", min=1, max=90, help="How far back.")] = 30
) -> None:
    """Show what a proposal would have meant for the work of the last days, and what that cannot say."""
    call.out.one(call.api.get(f"{PATH}/proposals/{part(proposal)}/simulation", days=days), SIMULATION, name="proposal")


@command(app, "parameters", examples=["aitbc gov parameters", "aitbc gov parameters trading.fee_basis_points"])
def parameters(
    call: Call, name: Annotated[str | None, typer.Argument(help="Only this one, or those that begin so.")] = None
) -> None:
    """Show every number that governance may change: its value, its range, and where the value comes from."""
    found = call.api.get(f"{PATH}/parameters")["data"]
    rows = [row for row in found if name is None or str(row["name"]).startswith(name)]
    call.out.rows(rows, PARAMETER, name="name")


@command(app, "treasury", examples=["aitbc gov treasury", "aitbc gov treasury --since 2026-11-01 --until 2026-12-01"])
def treasury(
    call: Call,
    since: Annotated[str | None, typer.Option("--since", help="Report from this day (UTC) on.")] = None,
    until: Annotated[str | None, typer.Option("--until", help="Report up to this day (UTC).")] = None,
) -> None:
    """Show what the treasury has and for what, or report a period."""
    if since is None and until is None:
        call.out.one(call.api.get(f"{PATH}/treasury"), TREASURY, name="account")
        return
    if since is None or until is None:
        raise usage("a report has --since and --until")
    found = call.api.get(f"{PATH}/treasury/report", since=f"{since}T00:00:00Z", until=f"{until}T00:00:00Z")
    call.out.one(found, REPORT, name="since")


@command(app, "payments", examples=["aitbc gov payments prop_01…"], lists=True)
def payments(
    call: Call, proposal: Annotated[str | None, typer.Argument(metavar="PROPOSAL", help="Only of this one.")] = None
) -> None:
    """List what the treasury got, pays and is to pay, of one proposal or all."""
    call.list(f"{PATH}/treasury/moves", MOVE, proposal=proposal)


@command(app, "give", examples=["aitbc gov give 10"], changes=True)
def give(call: Call, amount: Annotated[str, typer.Argument(help="How much, in AITBC.")]) -> None:
    """Give money of yours to the treasury, for good."""
    call.out.one(call.change("POST", f"{PATH}/treasury/gifts", {"amount": amount}), MOVE)


@command(app, "approve", examples=["aitbc gov approve txn_01…"], changes=True, ends=[NOT_FOUND])
def approve(call: Call, milestone: Annotated[str, typer.Argument(metavar="MILESTONE", help="Which, txn_…")]) -> None:
    """Approve a milestone of a payment (admins); when two accounts did, it is paid."""
    path = f"{PATH}/treasury/moves/{part(milestone)}/approval"
    call.out.one(call.change("PUT", path, natural=True), MOVE)


@command(app, "voter-key", examples=["aitbc gov voter-key 11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"], changes=True)
def voter_key(call: Call, public_key: Annotated[str, typer.Argument(help="The Ed25519 public key.")]) -> None:
    """Let a key sign votes for your account off-line."""
    found = call.change("PUT", f"{PATH}/voter-keys", {"public_key": public_key}, natural=True)
    call.out.one(found, columns("public_key", "account", "last_nonce", "created_at"), name="public_key")


@command(
    app,
    "sign-vote",
    examples=["aitbc gov sign-vote prop_01… for --account acct_01… --nonce 1 --key-file voter.key > vote.json"],
    server=False,
)
def sign_vote(
    call: Call,
    proposal: Which,
    choice: Annotated[str | None, typer.Argument(help="for, against or abstain.")] = None,
    account: Annotated[str, typer.Option("--account", help="Your account.")] = "",
    nonce: Annotated[int, typer.Option("--nonce", help="Higher than in any vote before.")] = 1,
    key_file: Annotated[Path, typer.Option("--key-file", help="The secret key; made where it is not there.")] = Path(
        "voter.key"
    ),
    option: Option = None,
    weight: Weight = None,
    reason: Reason = "",
) -> None:
    """Sign a vote without a server: print what `aitbc gov bring-vote` brings there."""
    from aitbc.kernel.crypto.signing import Key, canonical

    if not account:
        raise usage("--account is needed: a signed vote names its voter")
    if not key_file.exists():
        with os.fdopen(os.open(key_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(os.urandom(32))
    seed = key_file.read_bytes()
    if len(seed) != 32:
        raise Stop(f"{key_file} is no secret key: it has not 32 bytes", code="bad_key")
    key, said = Key(seed), _said(choice, option, weight)
    statement = {
        "account": account,
        "choice": {name: value for name, value in said.items() if value},
        "nonce": nonce,
        "proposal": proposal,
        "reason": reason,
        "statement": "aitbc.vote.v1",
    }
    signed = said | {"reason": reason, "account": account, "nonce": nonce, "public_key": key.public}
    signed["signature"] = key.sign(canonical(statement))
    call.out.text(json.dumps({"proposal": proposal, "vote": signed}))


@command(app, "bring-vote", examples=["aitbc gov bring-vote vote.json"], changes=True, ends=[NOT_FOUND])
def bring_vote(call: Call, file: Annotated[Path, typer.Argument(help="What `aitbc gov sign-vote` printed.")]) -> None:
    """Bring a vote that somebody signed off-line."""
    try:
        brought = json.loads(file.read_text(encoding="utf-8"))
        proposal, body = str(brought["proposal"]), dict(brought["vote"])
    except (OSError, ValueError, KeyError, TypeError):
        raise usage(f"{file} is no signed vote") from None
    found = call.change("POST", f"{PATH}/proposals/{part(proposal)}/signed-votes", body, natural=True)
    call.out.one(found, VOTE, name="proposal")


def _act(call: Call, proposal: str, verb: str, body: dict[str, Any] | None) -> None:
    found = call.change("POST", f"{PATH}/proposals/{part(proposal)}/{verb}", body, natural=True)
    call.out.one(found, FULL)


def _said(choice: str | None, options: list[int] | None, weights: list[int] | None) -> dict[str, Any]:
    if choice is not None and options:
        raise usage("a vote is for, against or abstain, or has --option")
    said: dict[str, Any] = {} if choice is None else {"choice": choice}
    said |= {"options": options} if options else {}
    return said | ({"weights": weights} if weights else {})


def _pairs(flag: str, given: list[str] | None) -> list[tuple[str, str]]:
    found = []
    for one in given or ():
        name, equals, value = one.rpartition("=")
        if not (name and equals and value):
            raise usage(f"{flag} {one!r} is not NAME=VALUE")
        found.append((name, value))
    return found


def _whole(text: str) -> int | None:
    if text in ("operator", "default"):
        return None
    try:
        return int(text)
    except ValueError:
        raise usage(f"{text!r} is no whole number", hint="or `operator`, for what the settings say") from None
