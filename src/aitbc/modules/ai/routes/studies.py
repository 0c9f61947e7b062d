"""The HTTP of studies."""

from typing import Annotated, Literal

from litestar import Controller, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.http.positions import after_id
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.errors import AmountOverflow
from aitbc.kernel.primitives.pagination import Cursor, InvalidCursor, Limit, Page
from aitbc.modules.ai.models.studies.shapes import CreateStudy, Study, StudyDetail
from aitbc.modules.ai.routes.market import SUBMIT_ERRORS
from aitbc.modules.ai.service.studies.sampling import StudiesNotInstalled
from aitbc.modules.ai.service.studies.studies import (
    Studies,
    StudyInvalid,
    StudyNotFound,
    StudyStateConflict,
    TooManyStudies,
)

LIST = "ai.studies"
Who = NamedDependency[Principal]
InState = Annotated[
    Literal["running", "paused", "canceling", "complete", "exhausted", "failed", "canceled"] | None,
    QueryParameter(name="state"),
]
CREATE = {
    "permission": "jobs:create",
    "idempotency": "required",
    "errors": (*SUBMIT_ERRORS, StudiesNotInstalled, StudyInvalid, AmountOverflow, TooManyStudies),
}
CHANGE = {"permission": "jobs:create", "idempotency": "natural", "errors": (StudyNotFound, StudyStateConflict)}


class StudyController(Controller):
    """Studies: parameters looked for by trials, each of which is a job."""

    path = "/studies"
    tags = ("ai",)

    @post("/", operation_id="create_study", summary="Create a study", opt=CREATE)
    async def create(
        self,
        studies: NamedDependency[Studies],
        who: Who,
        once: NamedDependency[IdempotencyKey],
        data: JSONBody[CreateStudy],
    ) -> Response[Study]:
        """Look for the parameters with which a job does best. Its trials are jobs, begun by themselves from now on.

        What is held and was paid for all of them never passes the budget. A trial that reports values in its log
        (`aitbc.report STEP VALUE`) and does worse than others is stopped if the study asks for that, and its money goes
        back.
        """
        study = await studies.create(who, data, once)
        return Response(study, status_code=201, headers={"location": f"/api/v1/ai/studies/{study.id}"})

    @get(
        "/",
        operation_id="list_studies",
        summary="List studies",
        opt={"permission": "jobs:read", "errors": (InvalidCursor,)},
    )
    async def list_studies(
        self,
        studies: NamedDependency[Studies],
        who: Who,
        in_state: InState = None,
        limit: FromQuery[Limit] = 50,
        cursor: FromQuery[Cursor] = None,
    ) -> Page[Study]:
        """List the caller's studies from the newest on, if wished only those in one state."""
        after = after_id(LIST, cursor, "study", bound_to=(in_state or "",))
        found = await studies.page(who, state=in_state, after=after, limit=limit + 1)
        return Page.of(LIST, found, limit, lambda study: study.id, bound_to=(in_state or "",))

    @get(
        "/{study:str}",
        operation_id="get_study",
        summary="Get a study",
        opt={"permission": "jobs:read", "errors": (StudyNotFound,)},
    )
    async def get_study(self, studies: NamedDependency[Studies], who: Who, study: FromPath[str]) -> StudyDetail:
        """Get a study with each trial: its parameters, its job, what it came to, and what the parameters matter."""
        return await studies.get(who, study)

    @post("/{study:str}/pause", operation_id="pause_study", summary="Pause a study", status_code=200, opt=CHANGE)
    async def pause(self, studies: NamedDependency[Studies], who: Who, study: FromPath[str]) -> Study:
        """Begin no further trial. Those under way go on, and are paid."""
        return await studies.pause(who, study)

    @post("/{study:str}/resume", operation_id="resume_study", summary="Resume a study", status_code=200, opt=CHANGE)
    async def resume(self, studies: NamedDependency[Studies], who: Who, study: FromPath[str]) -> Study:
        """Go on with a study that was paused."""
        return await studies.resume(who, study)

    @post("/{study:str}/cancel", operation_id="cancel_study", summary="Cancel a study", status_code=200, opt=CHANGE)
    async def cancel(self, studies: NamedDependency[Studies], who: Who, study: FromPath[str]) -> Study:
        """End a study: the jobs of its trials are canceled, and their money goes back. What was paid stays paid."""
        return await studies.cancel(who, study)
