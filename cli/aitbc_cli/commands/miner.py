"""Miners, as their owners see and steer them."""

from typing import Annotated, Any

import typer

from aitbc_cli.client import part
from aitbc_cli.command import Call, command, noun
from aitbc_cli.commands.devices import Watch, repeat, show_devices
from aitbc_cli.commands.miner_run import declare_running
from aitbc_cli.commands.miner_setup import declare_setup
from aitbc_cli.exits import NOT_FOUND
from aitbc_cli.id_completion import MINERS
from aitbc_cli.output import Column, column, columns
from aitbc_cli.terminal import say
from aitbc_cli.times import seconds_of, since

PATH = "/api/v1/gpu/miners"
BRIEF = (
    *columns("id", "name", "status", "kinds", "device"),
    Column("BUSY", "slots_busy", "number"),
    Column("SLOTS", "slots", "number"),
    Column("REPUTATION", "reputation", "number"),
    column("last_seen_at"),
)
FULL = (
    *columns("id", "name", "account", "status", "status_reason", "drain_message", "kinds", "models", "programs"),
    *columns("device", "gpu_models", "vram_mib", "region", "slots", "slots_busy", "reputation", "newcomer"),
    *columns("fingerprint", "public_key", "inventory.host.os", "inventory.host.cpu_model", "inventory.host.cpu_count"),
    *columns("inventory.host.memory_mib", "inventory.host.disk_free_mib", "created_at", "last_seen_at"),
)
ESTIMATE_IN = (column("estimate.per_day", "PER DAY"), column("estimate.basis", "PER DAY BY"))
HARDWARE = (
    *columns("gpu", "name", "source", "reason", "as_of", "runtime"),
    *(Column(head, field, "number") for head, field in (("SIZE", "size"), ("MS", "product_ms"), ("MIB", "memory_mib"))),
)
READINGS = (
    *columns("at", "uuid"),
    Column("LOAD %", "utilization", "number"),
    Column("USED", "memory_used_mib", "number"),
    Column("OF", "memory_total_mib", "number"),
    Column("°C", "temperature_celsius", "number"),
    Column("WATTS", "power_watts", "number"),
    *columns("brake_reasons", "samples"),
)
MinerId = Annotated[str, typer.Argument(metavar="MINER", help="The miner's id, mnr_…", autocompletion=MINERS)]
app = noun("miner", "Run a miner, and see after yours.")
declare_running(app)
declare_setup(app)


@command(
    app,
    "token",
    examples=["aitbc miner token -q", "AITBC_ENROLMENT_TOKEN=$(aitbc miner token -q --expires 10m) aitbc miner run"],
    changes=True,
)
def token(
    call: Call,
    expires: Annotated[str, typer.Option("--expires", metavar="TIME", help="How long it is valid; 1m to 1d.")] = "1h",
) -> None:
    """Make a one-time token that lets one machine in as a miner of yours; it is shown this one time."""
    body = {"expires_seconds": round(seconds_of(expires))}
    made = call.change("POST", "/api/v1/gpu/enrolment-tokens", body, natural=True)
    call.out.one(made, columns("id", "token", "account", "expires_at"), name="token")
    say("start the miner with it: AITBC_ENROLMENT_TOKEN=… aitbc miner run")


@command(
    app,
    "approve",
    examples=["aitbc miner approve BCDF-GHJK", "aitbc miner approve BCDF-GHJK --deny"],
    changes=True,
    ends=[NOT_FOUND],
)
def approve(
    call: Call,
    code: Annotated[str, typer.Argument(metavar="CODE", help="The code that the machine shows.")],
    deny: Annotated[bool, typer.Option("--deny", help="Do not let it in.")] = False,
) -> None:
    """Let the machine that shows this code in as a miner of yours: `aitbc miner enrol --code` runs on it."""
    path = f"/api/v1/gpu/enrolment-codes/{part(code)}"
    asked = call.api.get(path)
    if not deny:
        call.confirm(f"Let {asked['name']} in, whose key is {asked['fingerprint']}?")
    made = call.change("POST", f"{path}/{'deny' if deny else 'approve'}", natural=True)
    call.out.one(made, columns("code", "state", "name", "fingerprint", "expires_at"), name="code")


@command(app, "list", examples=["aitbc miner list", "aitbc miner list --status online -o csv"], lists=True)
def list_miners(
    call: Call,
    status: Annotated[
        str | None, typer.Option("--status", help="enrolled, online, draining, offline or removed.")
    ] = None,
) -> None:
    """List your miners; an admin sees all."""
    call.list(PATH, BRIEF, status=status)


@command(
    app,
    "show",
    examples=["aitbc miner show mnr_01…", "aitbc miner show mnr_01… --json", "aitbc miner show mnr_01… --watch"],
    ends=[NOT_FOUND],
)
def show(call: Call, miner: MinerId, watch: Watch = False) -> None:
    """Show a miner with its devices, as it last reported."""

    def once() -> None:
        answer = call.api.get(f"{PATH}/{part(miner)}")
        call.out.one(answer, FULL)
        show_devices(call, answer)

    repeat(call, once, again=watch)


@command(
    app,
    "readings",
    examples=["aitbc miner readings mnr_01…", "aitbc miner readings mnr_01… --step hour --since 7d -o csv"],
    ends=[NOT_FOUND],
)
def readings(
    call: Call,
    miner: MinerId,
    step: Annotated[str, typer.Option("--step", help="minute, kept for a day, or hour, kept for 90 days.")] = "minute",
    gpu: Annotated[str | None, typer.Option("--gpu", metavar="UUID", help="Only of this GPU.")] = None,
    since_: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help="RFC 3339, or how long ago: 24h, 7d.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="How many at most.")] = 60,
) -> None:
    """List what a miner's GPUs read, the newest first; empty is what a driver does not give."""
    wanted = {"step": step, "gpu": gpu, "since": since(since_) if since_ else None, "limit": limit}
    answer = call.api.get(f"{PATH}/{part(miner)}/readings", **wanted)
    call.out.rows(answer["data"], READINGS, name="at")


@command(
    app,
    "hardware",
    examples=["aitbc miner hardware mnr_01…", "aitbc miner hardware mnr_01… --json"],
    ends=[NOT_FOUND],
)
def hardware(call: Call, miner: MinerId) -> None:
    """Say which of a miner's GPUs have proved what they are, when and by what; why others have not."""
    answer = call.api.get(f"{PATH}/{part(miner)}/hardware")
    call.out.rows(answer["data"], HARDWARE, name="gpu")


@command(
    app,
    "drain",
    examples=['aitbc miner drain mnr_01… --message "new fans"', "aitbc miner drain mnr_01… --dry-run"],
    changes=True,
    ends=[NOT_FOUND],
)
def drain(
    call: Call,
    miner: MinerId,
    message: Annotated[str | None, typer.Option("--message", help="Why; shown with the miner.")] = None,
) -> None:
    """Let a miner end what it is at, and give it no more work."""
    _steer(call, "POST", miner, "/drain", {"message": message} if message else {})


@command(app, "resume", examples=["aitbc miner resume mnr_01…"], changes=True, ends=[NOT_FOUND])
def resume(call: Call, miner: MinerId) -> None:
    """Give a drained miner work again."""
    _steer(call, "POST", miner, "/resume", None)


@command(app, "remove", examples=["aitbc miner remove mnr_01… --yes"], changes=True, ends=[NOT_FOUND])
def remove(call: Call, miner: MinerId) -> None:
    """Remove a miner for good: its key ends, and what it works at goes to another. Its receipts stay."""
    call.confirm(f"Remove {miner}? It cannot come back under this id.")
    _steer(call, "DELETE", miner, "", None)


@command(
    app,
    "earnings",
    examples=["aitbc miner earnings mnr_01…", "aitbc miner earnings mnr_01… --since 7d"],
    ends=[NOT_FOUND],
)
def earnings(
    call: Call,
    miner: MinerId,
    since_: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help="RFC 3339, or how long ago: 24h, 7d.")
    ] = None,
) -> None:
    """Sum up what a miner earned, after fees, and what is set aside for the jobs it has or was not yet paid for."""
    answer = call.api.get(f"{PATH}/{part(miner)}/earnings", since=since(since_) if since_ else None)
    money = columns("miner", "since", "jobs", "earned", "own_jobs", "own", "pending_jobs", "pending")
    call.out.one(answer, (*money, *ESTIMATE_IN), name="earned")
    if call.out.is_for_people and answer["by_device"] and not call.options.fields:
        call.out.text("\nby GPU:")
        numbers = (Column("JOBS", "jobs", "number"), Column("EARNED", "earned", "number"))
        call.out.rows(answer["by_device"], (column("uuid_digest", "GPU"), *numbers), name="uuid_digest")


@command(
    app,
    "estimate",
    examples=["aitbc miner estimate --kind embed", "aitbc miner estimate --kind embed --kind ocr --slots 4 --json"],
)
def estimate(
    call: Call,
    kind: Annotated[
        list[str], typer.Option("--kind", help="A kind of work that it would do; more than once for more.")
    ],
    slots: Annotated[int, typer.Option("--slots", min=1, max=64, help="How many jobs it would work on at once.")] = 1,
) -> None:
    """Say what a further miner would have earned in a day of the last seven, by paid receipts alone; else no data."""
    answer = call.api.get(f"{PATH}/earnings-estimate", kinds=kind, slots=slots)
    call.out.one(answer, columns("per_day", "basis"), name="per_day")


@command(
    app,
    "why",
    examples=["aitbc miner why mnr_01…", "aitbc miner why mnr_01… --since 7d --json"],
    ends=[NOT_FOUND],
)
def why(
    call: Call,
    miner: MinerId,
    since_: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help="RFC 3339, or how long ago: 24h, 7d; else a day.")
    ] = None,
) -> None:
    """Say why a miner got work or did not: jobs it cannot do, by condition, and jobs that others got, by reason."""
    answer = call.api.get(f"{PATH}/{part(miner)}/why", since=since(since_) if since_ else None)
    call.out.one(answer, columns("miner", "since", "jobs", "taken", "waiting"), name="taken")
    if call.out.is_for_people and not call.options.fields:
        for title in ("filtered", "lost"):
            if answer[title]:
                call.out.text(f"\n{title}:")
                call.out.rows(answer[title], (column("reason"), Column("JOBS", "jobs", "number")), name="reason")
        if answer["canaries"]:
            call.out.text("\ncanary jobs, which the platform gives to idle miners:")
            call.out.rows(answer["canaries"], columns("kind", "state", "step", "message", "job", "at"), name="kind")


@command(
    app,
    "reputation",
    examples=["aitbc miner reputation mnr_01…", "aitbc miner reputation mnr_01… --json"],
    ends=[NOT_FOUND],
)
def reputation(call: Call, miner: MinerId) -> None:
    """Work a miner's reputation out, and show day by day what went into it."""
    answer = call.api.get(f"{PATH}/{part(miner)}/reputation")
    shown = columns(
        "miner", "value", "newcomer", "newcomer_below", "half_life_days", "window_days", "prior", "prior_weight"
    )
    call.out.one(answer, shown, name="value")
    if call.out.is_for_people and answer["days"] and not call.options.fields:
        call.out.text("")
        call.out.rows(
            answer["days"],
            (column("day"), *columns("good", "bad", "overcounted", "weight", kind="number")),
        )


def _steer(call: Call, method: str, miner: str, what: str, body: dict[str, Any] | None) -> None:
    path = f"{PATH}/{part(miner)}"
    answer = call.change(method, path + what, body, natural=True, look=path)
    call.out.one(answer, columns("id", "name", "status", "status_reason", "drain_message"))
