"""What is known of a miner, as its offers carry it."""

from typing import Any

import msgspec

from aitbc.modules.gpu.api import Miner
from aitbc.modules.gpu.events import MinerChanged
from aitbc.modules.marketplace.models.ratings import shrunk
from aitbc.modules.marketplace.models.tables import MinerRow, OfferRow

CLAIMED, MEASURED = "claimed", "measured"


def told(event: MinerChanged) -> dict[str, Any]:
    """The columns of a miner, of an event."""
    return {**_columns(event), "version": event.version, "as_of": event.changed_at, "source": source_of(event)}


def source_of(event: MinerChanged) -> str:
    """How a miner's hardware is known: measured where a proof has verified each of its GPUs, else only claimed."""
    return MEASURED if event.devices and all(one.get("verified") for one in event.devices) else CLAIMED


def asked(miner: Miner) -> dict[str, Any]:
    """The columns of a miner that gpu was asked for: older than any event of it."""
    return {**_columns(miner), "version": 0, "as_of": miner.changed_at, "source": miner.hardware}


def _columns(miner: MinerChanged | Miner) -> dict[str, Any]:
    return {
        "account": miner.account,
        "status": miner.status,
        "kinds": list(miner.kinds),
        "models": msgspec.json.encode(miner.models).decode(),
        "device": miner.device,
        "gpu_models": list(miner.gpu_models),
        "vram_mib": miner.vram_mib,
        "region": miner.region,
        "slots": miner.slots,
    }


def models_of(miner: MinerRow) -> dict[str, tuple[str, ...]]:
    """The models that a miner serves, by kind."""
    return msgspec.json.decode(miner.models, type=dict[str, tuple[str, ...]])


def carried(miner: MinerRow) -> dict[str, Any]:
    """What an offer carries of its miner."""
    return {
        "status": miner.status,
        "gpu_model": ", ".join(miner.gpu_models),
        "vram_mib": miner.vram_mib,
        "region": miner.region or "",
        "slots": miner.slots,
        "source": miner.source,
        "as_of": miner.as_of,
        "rating_milli": shrunk(miner.stars or 0, miner.ratings or 0),
        "ratings": miner.ratings or 0,
    }


def differs(offer: OfferRow, facts: dict[str, Any]) -> bool:
    """Whether an offer carries something else than is known by now."""
    return any(getattr(offer, name) != value for name, value in facts.items())
