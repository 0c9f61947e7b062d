"""The service of ai: all its parts in one object."""

from collections.abc import Sequence

from prometheus_client import Metric

from aitbc.modules.ai.service.booked_jobs import Ordering
from aitbc.modules.ai.service.dispatch import Dispatch
from aitbc.modules.ai.service.metrics import measure
from aitbc.modules.ai.service.periodic_tasks import Chores


class AiService(Ordering, Dispatch, Chores):
    """Sells work and has it done: jobs from their submission to their end, and what miners do with them."""

    async def measure(self) -> Sequence[Metric]:
        """What Prometheus is told of the jobs."""
        return await measure(self.db)
