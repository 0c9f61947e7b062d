"""What miners earned by GPU, and what one may expect: exact sums, and nothing that was not paid."""

from hypothesis import given
from hypothesis import strategies as st

from aitbc.kernel.primitives import money
from aitbc.modules.gpu.models.earnings import NO_DATA, by_device, estimate
from aitbc.modules.trading.api import DeviceEarnings, KindPaid

devices = st.lists(st.tuples(st.sampled_from(("a", "b", "c")), st.integers(1, 90_000)), max_size=3).map(tuple)
rows = st.builds(
    DeviceEarnings,
    devices=devices,
    is_own_work=st.booleans(),
    jobs=st.integers(1, 9),
    earned_units=st.integers(0, 10**15),
)


@given(st.lists(rows, max_size=8))
def test_the_parts_of_the_gpus_add_up_to_all_that_was_earned(found: list[DeviceEarnings]) -> None:
    parts = by_device(found)
    assert sum(money.parse(one.earned, zero=True) for one in parts) == sum(row.earned_units for row in found)
    assert len({one.uuid_digest for one in parts}) == len(parts)


def test_a_job_on_two_gpus_is_divided_by_the_memory_that_it_had_of_each() -> None:
    row = DeviceEarnings(devices=(("a", 100), ("b", 200)), is_own_work=False, jobs=1, earned_units=10)
    assert [(one.uuid_digest, one.earned) for one in by_device([row])] == [("b", "0.00000007"), ("a", "0.00000003")]


def test_an_estimate_divides_what_was_paid_by_those_who_compete() -> None:
    paid = [
        KindPaid(kind="embed", receipts=3, earned_units=7_000),
        KindPaid(kind="chat", receipts=9, earned_units=70_000),
    ]
    found = estimate(["embed", "ocr"], 2, {"embed": 10, "ocr": 4}, paid)
    assert (found.per_day, found.basis) == ("0.000002", "3 receipts of 7 days for embed, 2 of 10 slots")
    assert estimate(["ocr"], 2, {"ocr": 4}, paid).basis == NO_DATA
    assert estimate(["ocr"], 2, {"ocr": 4}, paid).per_day is None
