"""The same Protocol, here or in another process: same answers, same errors as the same classes."""

from typing import Any, Protocol

import pytest
from msgspec import Struct

from aitbc.kernel.database.unit_of_work import open_transaction
from aitbc.kernel.primitives.errors import Conflict, Unavailable
from aitbc.server.cluster.stubs import dispatch, local, operations, remote


class Seat(Struct, frozen=True):
    """A seat in the room."""

    number: int
    holder: str | None


class SeatTaken(Conflict):
    """Somebody sits there."""

    code = "test_seat_taken"


class SeatApi(Protocol):
    """What the room offers."""

    async def take(self, number: int, holder: str = "nobody") -> Seat:
        """Take a seat."""
        ...


class Room:
    """The service behind the face."""

    async def take(self, number: int, holder: str = "nobody") -> Seat:
        """Take a seat unless it is number 13."""
        if number == 13:
            raise SeatTaken("Thirteen is taken.", number=number)
        return Seat(number, holder)


def faces() -> list[SeatApi]:
    """The room as another module sees it, here and in another process."""
    room = Room()

    async def transport(name: str, body: bytes) -> tuple[int, bytes]:
        return await dispatch(SeatApi, room, name, body)

    return [local(SeatApi, room), remote(SeatApi, transport)]


@pytest.mark.parametrize("place", [0, 1])
async def test_both_transports_give_the_same_answer(place: int) -> None:
    face = faces()[place]
    assert await face.take(1) == Seat(1, "nobody")
    assert await face.take(2, holder="ann") == Seat(2, "ann")


@pytest.mark.parametrize("place", [0, 1])
async def test_a_refusal_arrives_as_the_class_it_was(place: int) -> None:
    with pytest.raises(SeatTaken, match="Thirteen") as caught:
        await faces()[place].take(13)
    assert caught.value.details == {"number": 13}


@pytest.mark.parametrize("place", [0, 1])
async def test_a_call_inside_an_open_transaction_is_refused(place: int) -> None:
    token = open_transaction.set("marketplace")
    try:
        with pytest.raises(AssertionError, match="marketplace called SeatApi.take"):  # noqa: RUF043
            await faces()[place].take(1)
    finally:
        open_transaction.reset(token)


async def test_a_broken_transport_is_an_error_the_caller_can_bear() -> None:
    async def transport(name: str, body: bytes) -> tuple[int, bytes]:
        raise Unavailable

    with pytest.raises(Unavailable):
        await remote(SeatApi, transport).take(1)


def test_a_protocol_that_could_not_cross_is_refused() -> None:
    class Wrong(Protocol):
        def sit(self) -> Any: ...

    with pytest.raises(TypeError, match="must be a coroutine"):
        operations(Wrong)
