"""Which GPUs a job gets: against every way in which it could get some, and never more than there is."""

import itertools
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitbc.modules.ai.models.devices import LeasableDevice, Reserved, Room, reserved_of, reserved_text, used_devices
from aitbc.modules.ai.models.queue import Needs, gpu_fits

NAMES = ("NVIDIA H100 80GB HBM3", "NVIDIA L4", None)


def gpu(index: int, memory_mib: int = 81_079, **changes: object) -> LeasableDevice:
    fields = {"uuid": f"GPU-{index:08d}", "index": index, "name": NAMES[0], "compute_capability": "9.0"}
    return LeasableDevice(**(fields | {"memory_mib": memory_mib} | changes))  # type: ignore[arg-type]


def asks(gpus: int = 1, **changes: object) -> Needs:
    return Needs(kind="command", gpus=gpus, **changes)  # type: ignore[arg-type]


devices = st.lists(
    st.builds(
        lambda memory, name, capability, rests: {
            "memory_mib": memory,
            "name": name,
            "compute_capability": capability,
            "rests": rests,
        },
        st.sampled_from((4, 6, 8)),
        st.sampled_from(NAMES),
        st.sampled_from(("8.9", "9.0", "10.0", None)),
        st.sampled_from((None, None, None, "draining")),
    ),
    max_size=5,
).map(lambda found: [gpu(index, **fields) for index, fields in enumerate(found)])
needs = st.builds(
    lambda gpus, share, least, model, capability: asks(
        1 if share else gpus,
        vram_mib=share,
        min_vram_mib=least,
        gpu_model=model,
        min_compute_capability=capability,
    ),
    st.integers(1, 3),
    st.sampled_from((0, 0, 1, 2, 3, 5)),
    st.sampled_from((0, 0, 5, 8)),
    st.sampled_from((None, None, "h100")),
    st.sampled_from((None, None, "9.0", "10")),
)


def left_by(reserved: Iterable[Reserved], device: LeasableDevice) -> int:
    held = [one for one in reserved if one.uuid == device.uuid]
    return 0 if any(one.is_whole for one in held) else device.memory_mib - sum(one.memory_mib for one in held)


def best_by_trying_all(found: Sequence[LeasableDevice], reserved: Sequence[Reserved], wish: Needs) -> object:
    """The best outcome over every way to serve a wish: first by what others still find whole, then by what is wasted.

    None where there is no way.
    """
    touched = {one.uuid for one in reserved}
    fitting = [device for device in found if device.rests is None and gpu_fits(wish, device)]
    if wish.vram_mib:
        ways = [(one,) for one in fitting if left_by(reserved, one) >= wish.vram_mib]
        return min((((way[0].uuid not in touched), left_by(reserved, way[0])) for way in ways), default=None)
    untouched = [device for device in fitting if device.uuid not in touched]
    ways = itertools.combinations(untouched, wish.gpus)  # type: ignore[assignment]
    return min((sorted(device.memory_mib for device in way) for way in ways), default=None)


@given(devices, st.lists(needs, max_size=8))
def test_what_is_chosen_is_the_best_of_all_ways_and_never_more_than_there_is(
    found: list[LeasableDevice], wishes: list[Needs]
) -> None:
    room, reserved = Room(found, ()), list[Reserved]()
    by_uuid = {device.uuid: device for device in found}
    for wish in wishes:
        best = best_by_trying_all(found, reserved, wish)
        touched = {one.uuid for one in reserved}
        chosen = room.take(wish)
        assert bool(chosen) is (best is not None)
        if not chosen:
            continue
        if wish.vram_mib:
            (one,) = chosen
            assert (one.uuid not in touched, left_by(reserved, by_uuid[one.uuid])) == best
            assert (one.memory_mib, one.is_whole) == (wish.vram_mib, False)
        else:
            assert len({one.uuid for one in chosen}) == wish.gpus
            assert sorted(one.memory_mib for one in chosen) == best
            assert all(one.is_whole and one.uuid not in touched for one in chosen)
        reserved += chosen
        for device in found:
            held = [one for one in reserved if one.uuid == device.uuid]
            assert sum(one.memory_mib for one in held) <= device.memory_mib
            assert len(held) <= 1 or not any(one.is_whole for one in held)
    assert [one for wish in wishes for one in Room(found, reserved).choose(wish)] == [
        one for wish in wishes for one in room.choose(wish)
    ]  # what attempts have, read anew, leaves the same


def test_shares_go_together_so_that_whole_gpus_stay_for_those_who_need_them() -> None:
    room = Room([gpu(0), gpu(1), gpu(2, 24_000)], ())
    small = asks(vram_mib=10_000)
    assert [room.take(small)[0].index for _ in range(3)] == [2, 2, 0]  # the smallest first, until it is full
    assert [one.index for one in room.take(asks())] == [1]
    assert room.take(asks()) == ()
    assert room.take(asks(vram_mib=71_079))[0].index == 0
    assert room.take(asks(vram_mib=4_001)) == ()


@pytest.mark.parametrize(
    ("wish", "found"),
    [
        ({}, [1]),
        ({"min_vram_mib": 30_000}, [0]),
        ({"gpu_model": "h-100"}, [0]),
        ({"min_compute_capability": "9.0"}, [0]),
        ({"min_compute_capability": "8"}, [1]),
        ({"min_compute_capability": "10.0"}, []),
        ({"gpus": 2}, [1, 0]),
        ({"gpus": 3}, []),
    ],
)
def test_a_job_gets_the_smallest_gpus_that_are_such_as_it_asks_for(wish: dict[str, object], found: list[int]) -> None:
    room = Room([gpu(0), gpu(1, 24_000, name="NVIDIA L4", compute_capability="8.9"), gpu(2, rests="draining")], ())
    assert [one.index for one in room.choose(asks(**wish))] == found  # type: ignore[arg-type]


def test_owners_of_jobs_see_the_digest_of_a_uuid_and_not_the_uuid() -> None:
    text = reserved_text(Room([gpu(0)], ()).take(asks()))
    (used,) = used_devices(text)
    assert (used.index, used.name, used.memory_mib, used.is_whole) == (0, NAMES[0], 81_079, True)
    assert used.uuid_digest.startswith("sha256:") and "GPU-" not in repr(used)
    assert (used_devices(None), reserved_text(()), reserved_of(None)) == ((), None, ())
