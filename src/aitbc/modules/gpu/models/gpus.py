"""The GPUs of miners, and the ids by which they are found."""

from aitbc.modules.gpu.api import Device, Miner


def gpus_of(miner: Miner) -> list[tuple[str, Device]]:
    """The GPUs of a miner, each with its id: that of the miner, a dash, and its place among the devices."""
    devices = enumerate(miner.inventory.devices)
    return [(f"{miner.id}-{place}", device) for place, device in devices if device.type != "cpu"]
