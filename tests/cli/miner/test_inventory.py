"""What a miner says of its GPUs, each by itself, before a driver's library that fails as it is told."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from aitbc.modules.gpu.api import Inventory
from aitbc_cli.miner.inventory import capabilities, inventory
from aitbc_cli.miner.nvml import Nvml
from tests.cli.miner.fake_nvml import FakeNvml

LOST, UNSUPPORTED, UNKNOWN = 15, 3, 999
CARD = 81_559


@pytest.fixture
def nvml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    (tmp_path / "lib").mkdir()
    return FakeNvml(tmp_path / "lib", monkeypatch)


def look(folder: Path, opened: Nvml | None = None) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The devices that a miner finds, and the offer made of them. The server takes what is found."""
    found = inventory(folder, opened)
    msgspec.convert(found, Inventory, strict=True)
    return found["devices"], capabilities(found, {"kinds": ["chat"]}, None)


@pytest.mark.parametrize("count", [1, 2, 8])
def test_sound_devices_are_all_offered(nvml: FakeNvml, tmp_path: Path, count: int) -> None:
    nvml.count(count)
    devices, offer = look(tmp_path)
    assert [device["uuid"] for device in devices[:-1]] == [f"GPU-{index:08d}" for index in range(count)]
    assert {(device["fault"], device["memory_is_shared"]) for device in devices[:-1]} == {(None, False)}
    assert (offer["device"], offer["vram_mib"], len(offer["gpu_models"])) == ("gpu", CARD - 480, count)


def test_what_the_driver_keeps_is_neither_used_nor_sold(nvml: FakeNvml, tmp_path: Path) -> None:
    nvml.count(1)
    (device, _), _ = look(tmp_path)
    memory = {name: value for name, value in device.items() if name.startswith("memory_")}
    assert memory == {
        "memory_total_mib": CARD,
        "memory_reserved_mib": 480,
        "memory_used_mib": 3,
        "memory_sellable_mib": CARD - 480,
        "memory_is_shared": False,
    }


def test_a_driver_that_knows_the_first_call_only_leaves_the_rest_open(nvml: FakeNvml, tmp_path: Path) -> None:
    nvml.count(1)
    nvml.change(0, fails={"nvmlDeviceGetMemoryInfo_v2": 13})
    (device, _), offer = look(tmp_path)
    assert (device["memory_reserved_mib"], device["memory_sellable_mib"]) == (None, None)
    assert (device["memory_total_mib"], device["memory_used_mib"], offer["vram_mib"]) == (CARD, 483, CARD)


@pytest.mark.parametrize("call", ["nvmlDeviceGetHandleByIndex", "nvmlDeviceGetName", "nvmlDeviceGetMemoryInfo_v2"])
def test_a_lost_device_is_named_and_hides_no_other(nvml: FakeNvml, tmp_path: Path, call: str) -> None:
    nvml.count(3)
    nvml.change(1, fails={call: LOST})
    devices, offer = look(tmp_path)
    assert [(device["index"], device["fault"] is None) for device in devices[:3]] == [(0, True), (1, False), (2, True)]
    assert "lost" in devices[1]["fault"].lower()
    assert (offer["device"], offer["gpu_models"]) == ("gpu", ["Card 0", "Card 2"])


def test_a_device_that_is_lost_midway_keeps_its_identity_and_no_readings(nvml: FakeNvml, tmp_path: Path) -> None:
    nvml.count(2)
    opened = Nvml()
    look(tmp_path, opened)
    nvml.change(0, fails={"nvmlDeviceGetHandleByIndex": LOST})
    devices, offer = look(tmp_path, opened)
    assert (devices[0]["uuid"], devices[0]["name"], devices[0]["fault"]) == ("GPU-00000000", "Card 0", "GPU is lost")
    assert (devices[0]["memory_used_mib"], devices[0]["utilization"], offer["gpu_models"]) == (None, None, ["Card 1"])


@pytest.mark.parametrize(
    ("health", "said"),
    [
        ({"ecc": 2}, "2 uncorrected memory errors"),
        ({"rows": [0, 1, 1, 0]}, "wait to be remapped"),
        ({"rows": [0, 1, 0, 1]}, "could not be remapped"),
    ],
)
def test_an_unhealthy_device_is_not_offered_and_says_why(
    nvml: FakeNvml, tmp_path: Path, health: dict[str, Any], said: str
) -> None:
    nvml.count(2)
    nvml.change(1, **health)
    devices, offer = look(tmp_path)
    assert said in devices[1]["fault"] and devices[1]["temperature_celsius"] == 40
    assert (offer["device"], offer["gpu_models"]) == ("gpu", ["Card 0"])


def test_a_remapped_row_that_is_in_place_is_no_fault(nvml: FakeNvml, tmp_path: Path) -> None:
    nvml.count(1)
    nvml.change(0, rows=[3, 1, 0, 0])
    assert look(tmp_path)[0][0]["fault"] is None


@pytest.mark.parametrize(
    ("reasons", "shown"),
    [
        ({"reasons": 0}, []),
        ({"reasons": 1}, []),
        ({"reasons": 1 | 4 | 64}, ["power_cap", "thermal_hardware"]),
        ({"reasons": None, "throttle": 128}, ["power_brake"]),
        ({"reasons": None}, None),
    ],
)
def test_what_brakes_a_device_is_shown(
    nvml: FakeNvml, tmp_path: Path, reasons: dict[str, Any], shown: list[str] | None
) -> None:
    nvml.count(1)
    nvml.change(0, **reasons)
    assert look(tmp_path)[0][0]["brake_reasons"] == shown


def test_a_machine_whose_only_device_is_lost_offers_its_processor(nvml: FakeNvml, tmp_path: Path) -> None:
    nvml.count(1)
    nvml.change(0, fails={"nvmlDeviceGetHandleByIndex": LOST})
    devices, offer = look(tmp_path)
    assert devices[0]["fault"] is not None
    assert (offer["device"], offer["vram_mib"]) == ("cpu", 0)


def test_a_device_without_memory_of_its_own_counts_the_hosts_and_says_so(nvml: FakeNvml, tmp_path: Path) -> None:
    nvml.count(1)
    nvml.change(0, total=None)
    (device, cpu), offer = look(tmp_path)
    assert device["memory_is_shared"] is True
    assert device["memory_total_mib"] == cpu["memory_total_mib"] == offer["vram_mib"] > 0


def test_what_cannot_be_read_is_null_and_never_nothing(nvml: FakeNvml, tmp_path: Path) -> None:
    unknown = {"nvmlDeviceGetMemoryInfo": UNKNOWN, "nvmlDeviceGetMemoryInfo_v2": UNKNOWN}
    nvml.count(1)
    missing = dict.fromkeys(("gpu", "power", "temperature", "capability", "reasons", "ecc", "rows", "energy"))
    nvml.change(0, fails=unknown, **missing)
    (device, _), offer = look(tmp_path)
    known = {name for name, value in device.items() if value is not None}
    assert known == {"vendor", "type", "index", "uuid", "name", "driver_version", "runtime_version"}
    assert (offer["device"], offer["vram_mib"]) == ("gpu", 0)


@pytest.mark.parametrize("fails", [{"nvmlInit": 9}, {"nvmlDeviceGetCount": UNKNOWN}])
def test_a_driver_that_is_reloaded_is_asked_anew(nvml: FakeNvml, tmp_path: Path, fails: dict[str, int]) -> None:
    opened = Nvml()
    nvml.show(nvml.module.device(0), **fails)
    assert [device["type"] for device in look(tmp_path, opened)[0]] == ["cpu"]
    nvml.count(1)
    assert [device["type"] for device in look(tmp_path, opened)[0]] == ["cuda", "cpu"]
