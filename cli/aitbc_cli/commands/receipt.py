"""Receipts of paid jobs."""

import json
from typing import Annotated, Any

import typer

from aitbc_cli.client import part
from aitbc_cli.command import Call, command, noun
from aitbc_cli.exits import NOT_FOUND, Stop
from aitbc_cli.id_completion import RECEIPTS
from aitbc_cli.output import Column, columns
from aitbc_cli.terminal import say

PATH = "/api/v1/trading/receipts"
OF_BOOKINGS = ("/api/v1/marketplace/bookings", "/api/v1/gpu/bookings")
FILE_BYTES_MAX = 1 << 20
ReceiptId = Annotated[
    str,
    typer.Argument(
        metavar="RECEIPT", help="Its id, rcpt_…; or the job's, job_…, or a booking's, book_…", autocompletion=RECEIPTS
    ),
]
TrustedKey = Annotated[
    list[str] | None,
    typer.Option("--key", help="A public key that must have signed; again for more. `aitbc chain keys`."),
]
MONEY = columns("price", "fee", "earned", kind="number")
FULL = (
    *columns("receipt.id", "receipt.job", "receipt.kind", "receipt.price", "receipt.fee", "receipt.earned"),
    *columns("receipt.unit", "receipt.units", "receipt.payer", "receipt.miner", "receipt.miner_account"),
    *columns("receipt.input_digest", "receipt.output_digest", "receipt.issued_at", "receipt.node_key"),
    Column("SEALED IN BLOCK", "proof.block.height"),
)
OF_BOOKING = (
    *columns("receipt.booking", "receipt.offer", "receipt.miner", "receipt.payer", "receipt.owner", "receipt.reason"),
    *columns("receipt.used_ms", "receipt.machine_ms", "receipt.paid", "receipt.began_at", "receipt.ended_at"),
    *columns("receipt.node_key"),
)
JOB_FACTS = ("id", "job", "kind", "price", "miner", "issued_at")
BOOKING_FACTS = ("booking", "miner", "payer", "paid", "used_ms", "machine_ms", "ended_at")
app = noun("receipt", "Receipts of paid jobs and bookings; verify one offline.")


@command(app, "list", examples=["aitbc receipt list", "aitbc receipt list --miner mnr_01… -o csv"], lists=True)
def list_receipts(
    call: Call,
    job: Annotated[str | None, typer.Option("--job", help="Only that of this job.")] = None,
    payer: Annotated[str | None, typer.Option("--payer", help="Only those this account paid.")] = None,
    miner: Annotated[str | None, typer.Option("--miner", help="Only those this miner earned.")] = None,
) -> None:
    """List receipts from the newest on."""
    shown = (*columns("id", "job", "kind"), *MONEY, *columns("miner", "issued_at"))
    call.list(PATH, shown, job=job, payer=payer, miner=miner)


@command(app, "show", examples=["aitbc receipt show rcpt_01…", "aitbc receipt show job_01… --json"], ends=[NOT_FOUND])
def show(call: Call, receipt: ReceiptId) -> None:
    """Show a receipt with its proof of inclusion; that of a booking with its payments, each sealed by itself."""
    found = _read(call, receipt)
    if receipt.startswith("book_"):
        call.out.one(found, OF_BOOKING, name="receipt.booking")
        return
    call.out.one(found, FULL, name="receipt.id")
    if call.out.is_for_people:
        say(f"who paid can dispute it within 72 hours: aitbc booking dispute {found['receipt']['id']} WHY")


@command(app, "save", examples=["aitbc receipt save rcpt_01… --out receipt.json"], ends=[NOT_FOUND])
def save(
    call: Call,
    receipt: ReceiptId,
    out: Annotated[str | None, typer.Option("--out", metavar="FILE", help="Where; - prints it.")] = None,
) -> None:
    """Save a receipt as the file that `aitbc receipt verify` checks without a server."""
    from aitbc_cli import files

    answer = _read(call, receipt)
    name = answer["receipt"]["booking" if receipt.startswith("book_") else "id"]
    file = out or f"{name}.json"
    files.save(file, [json.dumps(answer, indent=2).encode() + b"\n"])
    if file != files.STANDARD:
        call.out.value({"file": file, "receipt": name}, f"saved {file}", name=file)
    if answer.get("proof") is None and not receipt.startswith("book_"):
        say("it is not sealed into a block yet; save it again in a moment for the proof")


@command(
    app,
    "verify",
    examples=["aitbc receipt verify receipt.json", "aitbc receipt verify receipt.json --key bPA_vt6… --json"],
    server=False,
)
def verify(
    call: Call,
    file: Annotated[str, typer.Argument(metavar="FILE", help="A saved receipt; - reads it.")],
    key: TrustedKey = None,
) -> None:
    """Verify a receipt's file without a server: its signatures, the arithmetic, its place in a block.

    A booking's has the node's signature alone: no miner signs how long it was used. Its payments are in the chain.
    Without --key it shows that the file is sound in itself, and says whose keys signed it; compare them with keys you
    trust.
    """
    from aitbc.kernel.crypto.booking_receipt import is_booking, verify_booking
    from aitbc.kernel.crypto.chain_format import ChainError, verify_receipt
    from aitbc_cli import files

    document = files.read(file, bytes_max=FILE_BYTES_MAX)
    of_booking = is_booking(document)
    try:
        checked = (verify_booking if of_booking else verify_receipt)(document, trusted_keys=key or ())
    except ChainError as error:
        raise not_verified(f"{file}: {error}", error) from None
    shown = BOOKING_FACTS if of_booking else JOB_FACTS
    answer: dict[str, Any] = {
        "verified": True,
        "file": file,
        **{name: checked.receipt[name] for name in shown},
        "height": checked.height,
        "keys": sorted(checked.keys),
        "trusted": bool(key),
    }
    call.out.one(answer, columns(*shown, "height", "keys", "trusted"))
    call.out.text("receipt verified")
    if checked.height is None and not of_booking:
        say("it carries no proof that it was sealed into a block; save it again for that")
    if not key:
        say("signed by the keys above; --key KEY makes sure that they are the ones you trust")


def not_verified(message: str, error: Any) -> Stop:
    """What an offline check ends with at the first thing that does not hold."""
    found = {name: getattr(error, name, None) for name in ("height", "record", "field", "line")}
    return Stop(message, code="not_verified", **{name: value for name, value in found.items() if value is not None})


def _read(call: Call, receipt: str) -> dict[str, Any]:
    if receipt.startswith("book_"):
        return _of_booking(call, receipt)
    if receipt.startswith("job_"):  # a job and its receipt share one body of their ids
        receipt = "rcpt_" + receipt.removeprefix("job_")
    answer: dict[str, Any] = call.api.get(f"{PATH}/{part(receipt)}")
    return answer


def _of_booking(call: Call, booking: str) -> dict[str, Any]:
    """The receipt of a booking of an offer, else of a listed GPU."""
    of_offers, of_listings = OF_BOOKINGS
    try:
        found: dict[str, Any] = call.api.get(f"{of_offers}/{part(booking)}/receipt")
    except Stop as refusal:
        if refusal.code != "market_booking_not_found":
            raise
        found = call.api.get(f"{of_listings}/{part(booking)}/receipt")
    return found
