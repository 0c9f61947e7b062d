"""Models of GPUs are found under the names that people write."""

import pytest

from aitbc.kernel.primitives.model_names import is_named

DRIVER = "NVIDIA GeForce RTX 4090"


@pytest.mark.parametrize(
    "wanted", ["RTX4090", "rtx-4090", "RTX_4090", "4090", "nvidia rtx 4090", "geforce rtx4090", DRIVER]
)
def test_a_model_is_found_however_it_is_written(wanted: str) -> None:
    assert is_named(DRIVER, wanted)


@pytest.mark.parametrize(
    ("model", "wanted", "found"),
    [
        ("NVIDIA GB10", "NVIDIA_GB10", True),
        ("AMD Radeon RX 7900 XTX", "amd-rx7900xtx", True),
        (DRIVER, "RTX 4080", False),
        (DRIVER, "amd 4090", False),
        (DRIVER, "GeForce", True),  # the product line alone is a name too
        ("NVIDIA H100 80GB HBM3", "geforce", False),
        ("显卡 9", "显卡", True),
        (DRIVER, "显卡", False),
        (DRIVER, "%", False),
    ],
)
def test_what_tells_a_model_from_others_counts(model: str, wanted: str, found: bool) -> None:
    assert is_named(model, wanted) is found
