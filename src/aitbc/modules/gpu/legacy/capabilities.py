"""What a miner can do: the free-form object of the legacy dialect, and our own terms."""

import re
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from aitbc.kernel.legacy.amounts import optional_amount_of, units_of
from aitbc.kernel.legacy.errors import converted, invalid
from aitbc.kernel.legacy.spellings import first_list, first_text
from aitbc.kernel.legacy.task_types import kind_named
from aitbc.modules.gpu.api import DEVICES_MAX, Device, Inventory, Miner
from aitbc.modules.gpu.models.gpus import gpus_of
from aitbc.modules.gpu.models.offer import Offer
from aitbc.modules.gpu.service.legacy_miners import LegacyMiner

KIND = "chat"
"""What a legacy miner that names no kinds of work does: it answers prompts."""
FIELD = "/capabilities"
PRICES = ("price_per_hour", "pricing_per_hour", "price")
MIB_PER_GB = 1024
GB_AT_MOST = 1024
"""A bare `memory` up to here is in gigabytes, a larger one in megabytes."""
_SIZE = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([gGmM])(?:i?[bB])?\s*\Z")


class Capabilities(Struct, frozen=True):
    """Capabilities in our own terms."""

    offer: Offer
    inventory: Inventory
    price_units: int | None


def read_capabilities(found: Mapping[str, Any], region: str | None) -> Capabilities:
    """The terms of a free object of capabilities. Raises `Invalid` for what cannot be meant."""
    kinds = _kinds(found) or [KIND]
    return _terms(found, kinds, _models(found, kinds), _devices(found), region or first_text(found, "region"))


def read_update(found: Mapping[str, Any], region: str | None, before: Miner) -> Capabilities:
    """The terms of a miner after a partial update: what it says nothing of stays. Raises `Invalid`."""
    kinds = _kinds(found) or list(before.kinds)
    models = _models(found, kinds) or {kind: list(served) for kind, served in before.models.items() if kind in kinds}
    known = [msgspec.to_builtins(gpu) for _, gpu in gpus_of(before)]
    return _terms(found, kinds, models, _updated(found, known), region or first_text(found, "region") or before.region)


def capabilities_of(found: LegacyMiner) -> dict[str, Any]:
    """What is known of a miner, in the legacy form."""
    miner = found.miner
    gpus = [gpu for _, gpu in gpus_of(miner) if gpu.fault is None]
    return {
        "gpu": gpus[0].name if gpus else None,
        "gpus": [{"name": gpu.name, "memory_mb": gpu.memory_total_mib, "cuda": gpu.runtime_version} for gpu in gpus],
        "gpu_count": len(gpus),
        "gpu_memory": miner.vram_mib or None,
        "kinds": list(miner.kinds),
        "models": sorted({model for models in miner.models.values() for model in models}),
        "price_per_hour": optional_amount_of(found.price_units),
    }


def with_readings(
    inventory: Inventory, place: int, *, utilization: float | None, used_mib: float | None, celsius: float | None
) -> Inventory:
    """The same inventory with fresh readings of one device; what was not read now is not known now.

    Raises `Invalid`.
    """
    fresh = msgspec.to_builtins(inventory.devices[place])
    fresh |= {
        "utilization": utilization,
        "memory_used_mib": None if used_mib is None else round(used_mib),
        "temperature_celsius": celsius,
    }
    devices = list(inventory.devices)
    devices[place] = converted(fresh, Device, FIELD)
    return msgspec.structs.replace(inventory, devices=tuple(devices))


def _kinds(found: Mapping[str, Any]) -> list[Any]:
    """The kinds of work that are named, by whichever word."""
    words = first_list(found, "kinds", "job_types", "supported_kinds")
    return [kind_named(word) if isinstance(word, str) else word for word in words]


def _models(found: Mapping[str, Any], kinds: list[Any]) -> dict[str, list[Any]]:
    """The models that are named; they answer prompts."""
    models = first_list(found, "supported_models", "models")
    return {KIND: models} if models and KIND in kinds else {}


def _terms(
    found: Mapping[str, Any],
    kinds: list[Any],
    models: Mapping[str, list[Any]],
    devices: list[dict[str, Any]],
    region: str | None,
) -> Capabilities:
    names = list(dict.fromkeys(device["name"] for device in devices if device.get("name")))
    offer = {
        "kinds": kinds,
        "models": models,
        "device": "gpu" if devices else "cpu",
        "gpu_models": names[:8],
        "cuda": first_text(found, "cuda_version", "cuda"),
        "vram_mib": max((device.get("memory_total_mib") or 0 for device in devices), default=0),
        "region": region,
    }
    return Capabilities(
        offer=converted(offer, Offer, FIELD),
        inventory=converted({"devices": devices}, Inventory, FIELD),
        price_units=_price(found),
    )


def _devices(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The GPUs that are named, each as a device; with `gpu_count` one stands for several."""
    named = found.get("gpus") or found.get("gpu") or []
    listed = named if isinstance(named, list) else [named]
    if not listed and (found.get("gpu_memory") or found.get("gpu_memory_gb")):
        listed = [{}]
    devices = [_device(one, found) for one in listed[: DEVICES_MAX + 1]]
    count = found.get("gpu_count")
    if len(devices) == 1 and isinstance(count, int) and 1 < count <= DEVICES_MAX:
        devices *= count
    return [device | {"index": place} for place, device in enumerate(devices)]


def _updated(found: Mapping[str, Any], known: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The GPUs of a miner after an update, each in its place; another model keeps nothing but its version of CUDA."""
    devices = _devices(found) or [{"runtime_version": first_text(found, "cuda_version", "cuda")}] * len(known)
    if len(devices) == 1 and devices[0].get("name") is None:
        devices = devices * max(len(known), 1)  # an update that names none means all of them
    gpus = []
    for place, device in enumerate(devices):
        before = known[place] if place < len(known) else {}
        if device.get("name") not in (None, before.get("name")):
            before = {"runtime_version": before.get("runtime_version")}
        gpus.append(before | {name: value for name, value in device.items() if value is not None} | {"index": place})
    return gpus


def _device(one: Any, found: Mapping[str, Any]) -> dict[str, Any]:
    facts = {"name": one} if isinstance(one, str) else one
    if not isinstance(facts, dict):
        raise invalid(FIELD, "A GPU is a name, or an object that describes it")
    cuda = first_text(facts, "cuda_version", "cuda") or first_text(found, "cuda_version", "cuda")
    return {
        "name": first_text(facts, "name", "model", "gpu_model"),
        "memory_total_mib": _memory(facts) or _memory(found),
        "runtime_version": cuda,
        "compute_capability": first_text(facts, "compute_capability"),
    }


def _memory(facts: Mapping[str, Any]) -> int | None:
    for name, factor in (
        ("memory_mb", 1),
        ("memory_mib", 1),
        ("gpu_memory", 1),
        ("memory_gb", MIB_PER_GB),
        ("gpu_memory_gb", MIB_PER_GB),
    ):
        if (size := _number(facts.get(name))) is not None:
            return round(size * factor)
    memory = facts.get("memory")
    if isinstance(memory, str) and (size_text := _SIZE.match(memory)):
        return round(float(size_text[1]) * (MIB_PER_GB if size_text[2] in "gG" else 1))
    size = _number(memory)
    if size is None:
        return None
    return round(size * MIB_PER_GB) if size <= GB_AT_MOST else round(size)


def _number(size: Any) -> float | None:
    known = isinstance(size, (int, float)) and not isinstance(size, bool) and 0 < size < 2**40
    return float(size) if known else None


def _price(found: Mapping[str, Any]) -> int | None:
    name = next((name for name in PRICES if found.get(name) is not None), None)
    return None if name is None else units_of(found[name], f"{FIELD}/{name}")
