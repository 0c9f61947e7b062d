"""What the owner of a batch sees of it."""

from datetime import datetime

import msgspec
from msgspec import Struct

from aitbc.kernel.primitives import money
from aitbc.modules.ai.models.batch_tables import BatchRow


class BatchFault(Struct, frozen=True, kw_only=True):
    """Why a batch failed as a whole."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


class Batch(Struct, frozen=True, kw_only=True):
    """A batch."""

    id: str
    endpoint: str
    status: str
    """`validating`, `in_progress`, `finalizing`, `cancelling`; then `completed`, `failed`, `expired` or `cancelled`."""
    input_file: str
    output_file: str | None
    error_file: str | None
    model: str | None
    """The model of all its lines; none where they name several, or none could be read."""
    labels: dict[str, str] | None
    errors: tuple[BatchFault, ...]
    requests: int
    completed: int
    failed: int
    spent: str
    """What its lines cost until now, in AITBC."""
    created_at: datetime
    in_progress_at: datetime | None
    finalizing_at: datetime | None
    cancelling_at: datetime | None
    expires_at: datetime
    ended_at: datetime | None


_OWN = {"labels", "errors", "spent"}
_SAME = [name for name in Batch.__struct_fields__ if name not in _OWN]


def batch_view(row: BatchRow) -> Batch:
    """A batch as it is now."""
    return Batch(
        labels=None if row.labels is None else msgspec.json.decode(row.labels, type=dict[str, str]),
        errors=() if row.errors is None else msgspec.json.decode(row.errors, type=tuple[BatchFault, ...]),
        spent=money.render(row.spent_units),
        **{name: getattr(row, name) for name in _SAME},
    )


def faults_text(*faults: BatchFault) -> str:
    """Faults as JSON text."""
    return msgspec.json.encode(faults).decode()
