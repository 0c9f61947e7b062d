"""The HTTP of placements."""

from litestar import Controller, post
from litestar.di import NamedDependency
from litestar.params import JSONBody

from aitbc.kernel.identity.principal import Principal
from aitbc.modules.ai.routes.market import SUBMIT_ERRORS
from aitbc.modules.ai.service.placements import ComparePlacements, PlacementPlans, Placements


class PlacementController(Controller):
    """Where jobs would be done best."""

    path = "/placements"
    tags = ("ai",)

    @post(
        "/",
        operation_id="compare_placements",
        summary="Compare where jobs would be done",
        status_code=200,
        opt={"permission": "jobs:create", "idempotency": "natural", "errors": SUBMIT_ERRORS},
    )
    async def compare(
        self,
        placement_plans: NamedDependency[PlacementPlans],
        who: NamedDependency[Principal],
        data: JSONBody[ComparePlacements],
    ) -> Placements:
        """Say how a number of equal jobs would be done cheapest within a deadline, fastest within a budget, and what is
        between.

        By prices and measured speeds of the miners that are online; who else has work for them is not counted. Nothing
        is changed and no money moves.
        """
        return await placement_plans.compare(who, data)
