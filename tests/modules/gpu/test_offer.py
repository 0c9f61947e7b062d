"""What a miner may offer: within limits that an event can carry, and in one form."""

import msgspec
import pytest

from aitbc.kernel.database.outbox import BODY_BYTES_MAX, encode
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.modules.ai.api import Capabilities
from aitbc.modules.gpu.api import Device, Inventory
from aitbc.modules.gpu.models.devices import LEASABLE_MAX, ShownGpu, leasable_text
from aitbc.modules.gpu.models.life import Status
from aitbc.modules.gpu.models.offer import (
    GPU_MODELS_MAX,
    KINDS_MAX,
    MODEL_FACTS_MAX,
    MODELS_MAX,
    PROGRAMS_MAX,
    Offer,
    ToldModel,
    capabilities_of,
)
from aitbc.modules.gpu.models.values import MinerValue
from aitbc.modules.gpu.models.views import miner_changed


def widest(letters: str, length: int, count: int) -> tuple[str, ...]:
    """So many different words of that length."""
    return tuple(f"{letters}{number:03d}".rjust(length, letters[0]) for number in range(count))


def test_the_largest_offer_fits_into_an_event() -> None:
    kinds = widest("k", 40, KINDS_MAX)
    told = ToldModel(context=2**31 - 1, modalities=("text", "image", "audio"), quantization="Q" * 24)
    facts = dict.fromkeys(widest("m", 100, MODEL_FACTS_MAX), told)
    with pytest.raises(ValueError, match="together"):
        Offer(kinds=kinds, models={kind: widest("m", 100, MODELS_MAX) for kind in kinds}, model_facts=facts)
    most = {kind: widest("m", 100, MODELS_MAX) for kind in kinds}
    fewer = most | {kinds[0]: widest("m", 100, 14)}
    require_to_fit(kinds, most, {})
    require_to_fit(kinds, fewer, facts)


def require_to_fit(
    kinds: tuple[str, ...], models: dict[str, tuple[str, ...]], model_facts: dict[str, ToldModel]
) -> None:
    offer = Offer(
        kinds=kinds,
        models=models,
        model_facts=model_facts,
        device="gpu",
        gpu_models=widest("\U0001f600", 128, GPU_MODELS_MAX),
        vram_mib=16_777_216,
        region="\U0001f600" * 100,
        programs=widest("p", 40, PROGRAMS_MAX),
    )
    read = msgspec.json.decode(msgspec.json.encode(offer), type=Offer)
    gpus = [
        ShownGpu(
            uuid=f"{number:048d}",
            name="\U0001f600" * 128,
            memory_mib=2**40,
            fault="\U0001f600" * 128,
            index=1023,
            compute_capability="\U0001f600" * 128,
        )
        for number in range(LEASABLE_MAX + 1)
    ]
    miner = MinerValue(
        id=ids.new_id("mnr"),
        account=ids.new_id("acct"),
        status=Status.DRAINING,
        status_reason=None,
        drain_message=None,
        pause_reason=None,
        slots=64,
        slots_busy=0,
        version=2**62,
    )
    assert (
        len(encode(miner_changed(miner, read.stored(Inventory()), None, leasable_text(gpus), now()))) < BODY_BYTES_MAX
    )


def test_equal_offers_are_equal_text_whatever_their_order() -> None:
    one = Offer(kinds=("ocr", "embed", "ocr"), models={"ocr": ("b", "a"), "embed": ("c",)}, programs=("wc", "sort"))
    two = Offer(kinds=("embed", "ocr"), models={"embed": ("c",), "ocr": ("a", "b", "a")}, programs=("sort", "wc"))
    assert one.stored(Inventory()) == two.stored(Inventory())
    assert capabilities_of(one.stored(Inventory())) == Capabilities(
        kinds=("embed", "ocr"), models={"embed": ("c",), "ocr": ("a", "b")}, programs=("sort", "wc")
    )


def test_the_version_of_cuda_is_what_the_miner_says_or_what_its_devices_tell() -> None:
    found = Inventory(devices=(Device(type="cpu", runtime_version="6.1"), Device(type="cuda", runtime_version="12.4")))
    assert capabilities_of(Offer(kinds=("embed",)).stored(found)).cuda == "12.4"
    assert capabilities_of(Offer(kinds=("embed",), cuda="12.6").stored(found)).cuda == "12.6"
    assert capabilities_of(Offer(kinds=("embed",)).stored(Inventory())).cuda is None


def test_who_has_a_miner_booked_is_no_part_of_what_it_offers() -> None:
    stored = Offer(kinds=("embed",)).stored(Inventory())
    assert "book" not in stored and "cuda" not in stored
