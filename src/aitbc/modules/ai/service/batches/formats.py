"""What a batch needs of the protocol whose requests its lines are: the room `protocols` fills the table below."""

from typing import Any, Protocol

from msgspec import Raw, Struct

from aitbc.kernel.primitives.errors import AppError
from aitbc.modules.ai.service.text_runs import Ended

LINE_BYTES_MAX = 1024 * 1024 + 4096
"""What a line may weigh: a request of its endpoint, and its frame."""
CUSTOM_ID_MAX = 512


class Line(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A line of the input."""

    custom_id: str
    method: str
    url: str
    body: Raw


class LineWork(Struct, frozen=True):
    """The job that a request asks for."""

    kind: str
    input: dict[str, Any]


class LineFormat(Protocol):
    """The requests and answers of one endpoint."""

    def read(self, body: bytes) -> LineWork:
        """The job that the body of a request asks for. Raises what the endpoint itself would answer."""
        ...

    def answer(self, body: bytes, ended: Ended) -> dict[str, Any]:
        """The body of the answer to a request whose job succeeded."""
        ...

    def refusal(self, ended: Ended) -> AppError:
        """What its client is told of a job that gave nothing."""
        ...

    def error(self, error: AppError) -> tuple[int, bytes]:
        """The status and the body of an error."""
        ...


FORMATS: dict[str, LineFormat] = {}
"""By endpoint. An endpoint that is not in it has no batches."""
