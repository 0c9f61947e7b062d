"""The HTTP of proofs of hardware: how a miner shows that its GPUs are what their drivers say, and what is known."""

from litestar import Controller, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody
from msgspec import Struct

from aitbc.kernel.identity.principal import Principal
from aitbc.modules.gpu.api import MinerNotFound
from aitbc.modules.gpu.models.proofs import AnswerProof, AskProof, DeviceFact, Proof
from aitbc.modules.gpu.routes.protocol import MinerProtocolUnsupported, require_protocol
from aitbc.modules.gpu.service.proofs import (
    DeviceNotShown,
    ProofAnswerMissing,
    ProofNotFound,
    Proofs,
    ProofStepPassed,
    TooManyProofs,
)


class Hardware(Struct, frozen=True, kw_only=True):
    """What is known of a miner's GPUs by their proofs."""

    data: tuple[DeviceFact, ...]
    """A fact for each GPU that was ever tried."""


class ProofController(Controller):
    """Proofs of the GPUs of the miner that the key belongs to."""

    path = "/proofs"
    tags = ("work",)
    guards = (require_protocol,)

    @post(
        "/",
        operation_id="begin_proof",
        summary="Begin a proof of a GPU",
        status_code=201,
        opt={
            "permission": "miners:work",
            "idempotency": "natural",
            "errors": (MinerNotFound, DeviceNotShown, TooManyProofs, MinerProtocolUnsupported),
        },
    )
    async def begin(
        self, proofs: NamedDependency[Proofs], who: NamedDependency[Principal], data: JSONBody[AskProof]
    ) -> Proof:
        """Begin a proof of one of the miner's GPUs; its time runs from now on.

        Begin one when nothing else works on the GPU: at the start, every six hours, and after a change. Another that
        was under way for the same GPU has failed.
        """
        return await proofs.begin(who, data)

    @post(
        "/{proof:str}",
        operation_id="answer_proof",
        summary="Answer the step of a proof",
        status_code=200,
        opt={
            "permission": "miners:work",
            "idempotency": "natural",
            "errors": (MinerNotFound, ProofNotFound, ProofStepPassed, ProofAnswerMissing, MinerProtocolUnsupported),
        },
    )
    async def answer(
        self,
        proofs: NamedDependency[Proofs],
        who: NamedDependency[Principal],
        proof: FromPath[str],
        data: JSONBody[AnswerProof],
    ) -> Proof:
        """Answer what the step asks for: the root, rows of the product, that the memory is filled, or what it holds.

        Each step is answered once; the answer that is late or wrong ends the proof as failed.
        """
        return await proofs.answer(who, proof, data)


class HardwareController(Controller):
    """What is known of GPUs, for their owners."""

    tags = ("miners",)

    @get(
        "/miners/{miner:str}/hardware",
        operation_id="get_hardware",
        summary="Read what is known of a miner's GPUs",
        opt={"permission": "miners:read", "errors": (MinerNotFound,)},
    )
    async def hardware(
        self, proofs: NamedDependency[Proofs], who: NamedDependency[Principal], miner: FromPath[str]
    ) -> Hardware:
        """Read which of a miner's GPUs were measured, when and by what; why others were not."""
        return Hardware(data=tuple(await proofs.facts(who, miner)))
