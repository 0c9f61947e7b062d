"""Miners as others see them: in answers, and in events."""

from datetime import datetime

import msgspec

from aitbc.kernel.crypto.signing import key_fingerprint
from aitbc.modules.gpu.api import Inventory, MachineOffer, Miner
from aitbc.modules.gpu.events import MinerChanged
from aitbc.modules.gpu.models.devices import leasable_of
from aitbc.modules.gpu.models.offer import capabilities_of
from aitbc.modules.gpu.models.reputation import UNKNOWN, Score
from aitbc.modules.gpu.models.tables import MinerRow, ProfileRow, ReputationRow
from aitbc.modules.gpu.models.values import MinerValue


def score_of(row: ReputationRow | None) -> Score:
    """What matching knows of a miner's past."""
    return UNKNOWN if row is None else Score(row.score, row.good, row.bad)


def machine_of(profile: ProfileRow) -> MachineOffer | None:
    """What a miner gives as a machine; none where it does not say."""
    return machine_offer(profile.machine)


def machine_offer(stored: str | None) -> MachineOffer | None:
    """The same of what a profile keeps of it."""
    return None if stored is None else msgspec.json.decode(stored, type=MachineOffer)


def miner_view(row: MinerRow, profile: ProfileRow, reputation: ReputationRow | None) -> Miner:
    """A miner as its owner sees it."""
    offer = capabilities_of(profile.capabilities, profile.shown)
    score = score_of(reputation)
    return Miner(
        id=row.id,
        account=row.account,
        name=row.name,
        public_key=row.public_key,
        fingerprint=key_fingerprint(row.public_key),
        status=row.status,
        status_reason=row.status_reason,
        drain_message=row.drain_message,
        kinds=offer.kinds,
        models=offer.models,
        device=offer.device,
        gpu_models=offer.gpu_models,
        vram_mib=offer.vram_mib,
        region=offer.region,
        programs=offer.programs,
        machine=machine_of(profile),
        capabilities_version=row.capabilities_version,
        slots=row.slots,
        slots_busy=row.slots_busy,
        inventory=msgspec.json.decode(row.readings or profile.inventory, type=Inventory),
        reputation=score.value,
        newcomer=score.newcomer,
        last_seen_at=row.seen_at,
        created_at=row.created_at,
        changed_at=row.changed_at,
    )


def miner_changed(
    miner: MinerRow | MinerValue, capabilities: str, shown: str | None, devices: str | None, at: datetime
) -> MinerChanged:
    """What matching must know of a miner now."""
    offer = capabilities_of(capabilities, shown)
    return MinerChanged(
        miner=miner.id,
        account=miner.account,
        version=miner.version,
        status=miner.status,
        status_reason=miner.status_reason,
        kinds=offer.kinds,
        models=offer.models,
        model_facts={name: msgspec.to_builtins(facts) for name, facts in offer.model_facts.items()},
        programs=offer.programs,
        device=offer.device,
        gpu_models=offer.gpu_models,
        vram_mib=offer.vram_mib,
        region=offer.region,
        cuda=offer.cuda,
        devices=leasable_of(devices),
        slots=miner.slots,
        booking=miner.booking,
        booker=miner.booker,
        changed_at=at,
    )
