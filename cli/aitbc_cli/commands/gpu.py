"""GPUs for rent: found, and offered."""

from contextlib import suppress
from typing import Annotated, Any

import typer

from aitbc_cli.client import part
from aitbc_cli.command import Call, command, noun
from aitbc_cli.commands.devices import Watch, repeat, show_devices
from aitbc_cli.exits import NOT_FOUND, Stop
from aitbc_cli.id_completion import GPUS, MINERS
from aitbc_cli.output import Column, columns

PATH = "/api/v1/gpu/listings"
Which = Annotated[str, typer.Argument(metavar="GPU", help="Its id, gpu_…", autocompletion=GPUS)]
BRIEF = (
    *columns("id", "model", "status"),
    Column("PRICE/H", "price_per_hour", "number"),
    *columns("region", "hardware", "miner"),
)
FULL = (
    *columns(
        "id",
        "model",
        "status",
        "status_reason",
        "hardware",
        "price_per_hour",
        "memory_gb",
        "compute_capability",
        "region",
        "miner",
    ),
    *columns("description", "average_rating", "reviews", "created_at"),
)
app = noun("gpu", "GPUs for rent: find one, or offer yours.")


@command(app, "list", examples=["aitbc gpu list --available", "aitbc gpu list --model h100"], lists=True)
def list_gpus(
    call: Call,
    model: Annotated[str | None, typer.Option("--model", help="Part of the model's name.")] = None,
    region: Annotated[str | None, typer.Option("--region", help="Where it stands.")] = None,
    available: Annotated[bool, typer.Option("--available", help="Only those that can be had now.")] = False,
) -> None:
    """List everybody's GPUs from the newest on."""
    call.list(PATH, BRIEF, model=model, region=region, available="true" if available else None)


@command(
    app,
    "show",
    examples=["aitbc gpu show gpu_01…", "aitbc gpu show gpu_01… --json", "aitbc gpu show gpu_01… --watch"],
    ends=[NOT_FOUND],
)
def show(call: Call, gpu: Which, watch: Watch = False) -> None:
    """Show a GPU: its price, what its owner says of it, and whether it can be had; to its owner also its readings."""

    def once() -> None:
        listing = call.api.get(f"{PATH}/{part(gpu)}")
        call.out.one(listing, FULL)
        if listing["miner"] is not None and call.out.is_for_people:
            with suppress(Stop):  # the miner is another's
                show_devices(call, call.api.get(f"/api/v1/gpu/miners/{part(listing['miner'])}"))

    repeat(call, once, again=watch)


@command(
    app,
    "offer",
    examples=["aitbc gpu offer 'RTX 4090' 0.25 --miner mnr_01…", "aitbc gpu offer H100 1.5 --memory-gb 80 --dry-run"],
    changes=True,
    ends=[NOT_FOUND],
)
def offer(
    call: Call,
    model: Annotated[str, typer.Argument(help="What it is.")],
    price: Annotated[str, typer.Argument(help="AITBC for an hour, for instance 0.25.")],
    miner: Annotated[
        str | None, typer.Option("--miner", help="Your miner that it is in, mnr_…", autocompletion=MINERS)
    ] = None,
    memory_gb: Annotated[int | None, typer.Option("--memory-gb", help="Its memory.")] = None,
    region: Annotated[str | None, typer.Option("--region", help="Where it stands.")] = None,
    description: Annotated[str | None, typer.Option("--description", help="What else there is to say.")] = None,
) -> None:
    """List a GPU of yours for booking: whoever books it has its miner. `aitbc offer create` puts it on the market."""
    optional = {"miner": miner, "memory_gb": memory_gb, "region": region, "description": description}
    body: dict[str, Any] = {"model": model, "price_per_hour": price}
    body |= {name: value for name, value in optional.items() if value is not None}
    call.out.one(call.change("POST", PATH, body), FULL)


@command(app, "remove", examples=["aitbc gpu remove gpu_01…"], changes=True, ends=[NOT_FOUND])
def remove(call: Call, gpu: Which) -> None:
    """Take a GPU of yours off the market; one that is booked stays until it is free."""
    path = f"{PATH}/{part(gpu)}"
    call.out.one(call.change("DELETE", path, natural=True, look=path), columns("id", "status"))
