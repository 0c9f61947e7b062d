"""Which miner fits which job: the conditions that are more than one word being like another."""

import pytest

from aitbc.modules.ai.api import Capabilities
from aitbc.modules.ai.models.queue import Needs, matches, needs_text


@pytest.mark.parametrize(
    ("wanted", "told", "fits"),
    [
        (None, None, True),
        (None, "12.4", True),
        ("12", "12.4", True),
        ("12.4", "12.4", True),
        ("12.4", "12", False),
        ("1", "12.4", False),
        ("2.4", "12.4", False),
        ("11.8", "11.80", False),
        ("12", None, False),
    ],
)
def test_a_version_of_cuda_fits_as_far_as_it_is_named(wanted: str | None, told: str | None, fits: bool) -> None:
    needs = Needs(kind="embed", cuda=wanted)
    assert matches(needs, Capabilities(kinds=("embed",), cuda=told)) is fits


@pytest.mark.parametrize(
    ("served", "fits"),
    [({}, False), ({"chat": ("a", "b", "c")}, True), ({"chat": ("a",)}, False), ({"chat": ()}, False)],
)
def test_several_models_are_served_all_of_them_or_the_miner_does_not_fit(
    served: dict[str, tuple[str, ...]],
    fits: bool,
) -> None:
    needs = Needs(kind="chat", models=("a", "b"))
    assert matches(needs, Capabilities(kinds=("chat",), models=served)) is fits


def test_a_booked_miner_and_the_jobs_of_its_booking_are_for_each_other_alone() -> None:
    free, booked = Capabilities(kinds=("chat",)), Capabilities(kinds=("chat",), booking="book_1", booker="acct_1")
    plain, aimed = Needs(kind="chat"), Needs(kind="chat", booking="book_1", booker="acct_1")
    thief, other = (
        Needs(kind="chat", booking="book_1", booker="acct_2"),
        Needs(kind="chat", booking="book_2", booker="acct_1"),
    )
    assert [matches(plain, free), matches(aimed, booked)] == [True, True]
    for needs, offer in ((plain, booked), (aimed, free), (thief, booked), (other, booked)):
        assert not matches(needs, offer)


def test_needs_that_ask_for_nothing_new_are_the_same_text_as_before() -> None:
    assert needs_text(Needs(kind="chat")) == '{"kind":"chat"}'
