"""What `aitbc doctor` says of graphics cards: with a driver that the tests have, and devices in a folder of theirs."""

from pathlib import Path

import pytest

from aitbc_cli.doctor import gpus
from aitbc_cli.doctor.case import Case
from tests.cli.miner.fake_nvml import FakeNvml


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(environ={"HOME": str(tmp_path), "AITBC_STATE_DIR": str(tmp_path / "state")})


@pytest.fixture
def devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for /dev, without a card yet."""
    folder = tmp_path / "dev"
    folder.mkdir()
    monkeypatch.setattr(gpus, "DEVICES", folder)
    return folder


def appear(folder: Path, *names: str, mode: int = 0o666) -> None:
    for name in names:
        (folder / name).touch()
        (folder / name).chmod(mode)


@pytest.fixture
def nvml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    (tmp_path / "lib").mkdir()
    return FakeNvml(tmp_path / "lib", monkeypatch)


def test_cards_are_named_and_one_with_a_fault_has_its_fix(case: Case, devices: Path, nvml: FakeNvml) -> None:
    nvml.count(2)
    (fine,) = gpus.gpu(case)
    assert (fine.result, fine.message) == ("ok", "Card 0, Card 1; driver 580.159")
    nvml.change(1, ecc=3)
    fine, broken = gpus.gpu(case)
    assert (fine.message, broken.result, broken.about) == ("Card 0; driver 580.159", "failed", "1")
    assert broken.fix == "sudo nvidia-smi --gpu-reset -i 1"


def test_a_driver_that_does_not_answer_is_told_from_none(case: Case, devices: Path, nvml: FakeNvml) -> None:
    nvml.show(nvmlInit=9)
    (none,) = gpus.gpu(case)
    assert (none.result, none.message) == ("ok", gpus.NONE)
    appear(devices, "nvidiactl")
    (silent,) = gpus.gpu(case)
    assert (silent.result, silent.fix) == ("warning", "nvidia-smi || sudo reboot")


def test_devices_that_programs_may_not_open_are_named(case: Case, devices: Path) -> None:
    assert gpus.permissions(case).result == "skipped"
    appear(devices, "nvidiactl", "nvidia0")
    assert "nvidia-uvm is not there" in gpus.permissions(case).message
    appear(devices, "nvidia-uvm")
    assert gpus.permissions(case).result == "ok"
    appear(devices, "nvidia0", mode=0o000)
    closed = gpus.permissions(case)
    assert (closed.result, closed.fix) == ("failed", f"sudo chmod a+rw {devices / 'nvidia0'}")


def test_a_python_without_a_runtime_leaves_cards_unverified(
    case: Case, devices: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert gpus.runtime(case).result == "skipped"
    appear(devices, "nvidiactl")
    for said, code, result in (("torch", 0, "ok"), ("", 1, "warning")):
        python = tmp_path / "python3"
        python.write_text(f"#!/bin/sh\necho {said}\nexit {code}\n")
        python.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        found = gpus.runtime(case)
        assert (found.result, "pip install torch" in (found.fix or "")) == (result, bool(code))


def test_containers_need_an_engine_and_a_cdi_file(
    case: Case, devices: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(gpus, "CDI", (tmp_path / "cdi",))
    assert gpus.containers(case).result == "skipped"
    appear(tmp_path, "podman", mode=0o755)
    assert gpus.containers(case).result == "warning"
    (tmp_path / "podman").write_text("#!/bin/sh\n[ $1 = run ] && echo aitbc canary\nexit 0\n")
    assert gpus.containers(case).result == "ok"
    appear(devices, "nvidiactl")
    assert "nvidia-ctk cdi generate" in str(gpus.containers(case).fix)
    (tmp_path / "cdi").mkdir()
    (tmp_path / "cdi" / "nvidia.yaml").write_text("kind: nvidia.com/gpu")
    assert gpus.containers(case).result == "ok"


def test_a_cluster_answers_or_not_and_gets_no_containers(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpus.cluster(case).result == "skipped"
    appear(tmp_path, "sinfo", "sbatch", mode=0o755)
    for said, code, result in (("all*", 0, "ok"), ("", 0, "warning"), ("", 1, "warning")):
        (tmp_path / "sinfo").write_text(f"#!/bin/sh\necho {said}\nexit {code}\n")
        found = gpus.cluster(case)
        assert found.result == result and ("container" in found.message) == (result == "ok"), found


def test_memory_and_room_are_said_with_what_helps(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    assert gpus.memory_bound(case).result in ("ok", "skipped")
    assert gpus.model_room(case).result in ("ok", "skipped")
    monkeypatch.setattr(gpus, "MODEL_BYTES", 1 << 62)
    assert gpus.model_room(case).result == "skipped"
