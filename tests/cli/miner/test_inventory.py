"""What a miner says of its GPUs, each by itself, before a driver's library that fails as it is told."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from aitbc_cli.miner.inventory import capabilities, inventory

LOST, UNSUPPORTED, UNKNOWN = (
    *(pynvml.NVML_ERROR_GPU_IS_LOST, pynvml.NVML_ERROR_NOT_SUPPORTED),
    pynvml.NVML_ERROR_UNKNOWN,
)


class Driver:
    """Stands for NVIDIA's library, with its own errors; a call fails for a device where it was told to."""

    NVML_TEMPERATURE_GPU = 0

    def __init__(self, count: int, **fails: dict[int, int]) -> None:
        self._count = count
        self._fails = fails

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("nvml"):
            return getattr(pynvml, name)
        answers: dict[str, Callable[[int], Any]] = {
            "DeviceGetHandleByIndex": lambda index: index,
            "DeviceGetMemoryInfo": lambda _: SimpleNamespace(total=80 << 30, used=1 << 30),
            "DeviceGetUtilizationRates": lambda _: SimpleNamespace(gpu=5),
            "DeviceGetCudaComputeCapability": lambda _: (9, 0),
            "DeviceGetUUID": lambda index: f"GPU-{index}",
            "DeviceGetName": lambda index: f"Card {index}",
            "DeviceGetPowerUsage": lambda _: 78_000,
            "DeviceGetTemperature": lambda _: 40,
        }
        call = name.removeprefix("nvml")

        def answer(index: int = 0, *_: Any) -> Any:
            if index in self._fails.get(call, {}):
                raise pynvml.NVMLError(self._fails[call][index])
            system = {"DeviceGetCount": self._count, "SystemGetCudaDriverVersion": 13_000}
            return answers[call](index) if call in answers else system.get(call, "580")

        return answer


@pytest.fixture
def found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., tuple[list[dict[str, Any]], dict[str, Any]]]:
    """The devices of a driver, and the offer made of them."""

    def look(count: int, **fails: dict[int, int]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        monkeypatch.setitem(sys.modules, "pynvml", Driver(count, **fails))
        told = inventory(tmp_path)
        return told["devices"], capabilities(told, {"kinds": ["chat"]}, None)

    return look


def test_two_sound_devices(found: Any) -> None:
    devices, offer = found(2)
    assert [device["name"] for device in devices[:2]] == ["Card 0", "Card 1"]
    assert {(device["fault"], device["memory_is_shared"]) for device in devices[:2]} == {(None, False)}
    assert (offer["device"], offer["vram_mib"]) == ("gpu", 81_920)


@pytest.mark.parametrize("call", ["DeviceGetHandleByIndex", "DeviceGetName", "DeviceGetMemoryInfo"])
def test_a_lost_device_is_named_and_hides_no_other(found: Any, call: str) -> None:
    devices, offer = found(3, **{call: {1: LOST}})
    assert [(device["index"], device["fault"] is None) for device in devices[:3]] == [(0, True), (1, False), (2, True)]
    assert "lost" in devices[1]["fault"].lower()
    assert (offer["device"], offer["gpu_models"]) == ("gpu", ["Card 0", "Card 2"])


def test_a_machine_whose_only_device_is_lost_offers_its_processor(found: Any) -> None:
    devices, offer = found(1, DeviceGetHandleByIndex={0: LOST})
    assert devices[0]["fault"] is not None
    assert (offer["device"], offer["vram_mib"]) == ("cpu", 0)


def test_a_device_without_memory_of_its_own_counts_the_hosts_and_says_so(found: Any) -> None:
    devices, offer = found(1, DeviceGetMemoryInfo={0: UNSUPPORTED})
    device, cpu = devices
    assert device["memory_is_shared"] is True
    assert device["memory_total_mib"] == cpu["memory_total_mib"] == offer["vram_mib"] > 0


def test_what_cannot_be_read_is_no_guess(found: Any) -> None:
    devices, offer = found(1, DeviceGetMemoryInfo={0: UNKNOWN}, DeviceGetTemperature={0: UNSUPPORTED})
    assert (devices[0]["memory_total_mib"], devices[0]["temperature_celsius"]) == (None, None)
    assert (devices[0]["memory_is_shared"], offer["device"], offer["vram_mib"]) == (None, "gpu", 0)
