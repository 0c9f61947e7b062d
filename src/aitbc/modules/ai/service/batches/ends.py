"""The end of a batch, as it is published."""

from aitbc.kernel.database.unit_of_work import UnitOfWork
from aitbc.modules.ai.events import BatchEnded
from aitbc.modules.ai.models.batch_tables import BatchRow


def publish_end(uow: UnitOfWork, row: BatchRow) -> None:
    """Publish that a batch has ended."""
    uow.publish(
        BatchEnded(
            batch=row.id,
            account=row.account,
            status=row.status,
            requests=row.requests,
            completed=row.completed,
            failed=row.failed,
            output_file=row.output_file,
            error_file=row.error_file,
        )
    )
