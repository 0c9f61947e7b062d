"""The service of ai: all its parts in one object."""

from aitbc.modules.ai.service.chores import Chores
from aitbc.modules.ai.service.dispatch import Dispatch
from aitbc.modules.ai.service.submitting import Submitting


class AiService(Submitting, Dispatch, Chores):
    """Sells work and has it done: jobs from their submission to their end, and what miners do with them."""
