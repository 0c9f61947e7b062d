"""The HTTP of enrolment by a code: a machine asks, and its owner answers."""

from typing import Annotated

from litestar import Controller, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody
from msgspec import Meta

from aitbc.kernel.identity.accounts import KeyBeingReplaced
from aitbc.kernel.identity.principal import PUBLIC, Principal
from aitbc.modules.gpu.service.enrolment import InvalidEnrolmentToken
from aitbc.modules.gpu.service.enrolment_codes import (
    AskForCode,
    EnrolmentCode,
    EnrolmentCodeAnswered,
    EnrolmentCodeNotFound,
    EnrolmentCodes,
    TooManyEnrolmentCodes,
)

Code = Annotated[str, Meta(min_length=1, max_length=40)]
ANSWER = {"permission": "miners:enrol", "idempotency": "natural"}


class EnrolmentCodeController(Controller):
    """Codes that machines show until their owners approve them."""

    path = "/enrolment-codes"
    tags = ("miners",)

    @post(
        "/",
        operation_id="ask_for_enrolment_code",
        summary="Ask for an enrolment code",
        status_code=200,
        opt={
            "permission": PUBLIC,
            "idempotency": "natural",
            "errors": (InvalidEnrolmentToken, TooManyEnrolmentCodes),
        },
    )
    async def ask(self, enrolment_codes: NamedDependency[EnrolmentCodes], data: JSONBody[AskForCode]) -> EnrolmentCode:
        """Ask to be let in, with a token that the machine made for itself; sent again it tells what became of that.

        Once the code is `approved`, the machine enrols with that token (`enrol_miner`). Without an answer the code ends
        after ten minutes and gives nothing.
        """
        return await enrolment_codes.ask(data)

    @get(
        "/{enrolment_code:str}",
        operation_id="get_enrolment_code",
        summary="Get the machine that shows a code",
        opt={"permission": "miners:enrol", "errors": (EnrolmentCodeNotFound,)},
    )
    async def get_code(
        self, enrolment_codes: NamedDependency[EnrolmentCodes], enrolment_code: FromPath[Code]
    ) -> EnrolmentCode:
        """Get what is known of the machine that shows this code: approve it only if it is yours."""
        return await enrolment_codes.get(enrolment_code)

    @post(
        "/{enrolment_code:str}/approve",
        operation_id="approve_enrolment_code",
        summary="Approve a machine",
        status_code=200,
        opt=ANSWER | {"errors": (EnrolmentCodeNotFound, EnrolmentCodeAnswered, KeyBeingReplaced)},
    )
    async def approve(
        self,
        enrolment_codes: NamedDependency[EnrolmentCodes],
        who: NamedDependency[Principal],
        enrolment_code: FromPath[Code],
    ) -> EnrolmentCode:
        """Let the machine that shows this code in, as a miner of the caller's account."""
        return await enrolment_codes.approve(who, enrolment_code)

    @post(
        "/{enrolment_code:str}/deny",
        operation_id="deny_enrolment_code",
        summary="Deny a machine",
        status_code=200,
        opt=ANSWER | {"errors": (EnrolmentCodeNotFound, EnrolmentCodeAnswered)},
    )
    async def deny(
        self,
        enrolment_codes: NamedDependency[EnrolmentCodes],
        who: NamedDependency[Principal],
        enrolment_code: FromPath[Code],
    ) -> EnrolmentCode:
        """Let the machine that shows this code not in."""
        return await enrolment_codes.deny(who, enrolment_code)
