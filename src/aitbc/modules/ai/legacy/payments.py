"""The money of jobs as the coordinator's payments: held when a job is submitted, and moved by what becomes of it."""

from litestar import Controller, Response, get, post
from litestar.params import FromPath, JSONBody
from msgspec import Struct

from aitbc.kernel.legacy.amounts import PositiveAmount, units_of
from aitbc.kernel.legacy.caller import Once, Who
from aitbc.modules.ai.legacy.caller import CREATE, NATURAL, READ, Ai
from aitbc.modules.ai.legacy.shapes import Payment, payment_of


class Pay(Struct, frozen=True, kw_only=True):
    """A payment for a job."""

    job_id: str
    amount: PositiveAmount


class PaymentMoved(Struct, frozen=True, kw_only=True):
    """What became of a payment."""

    status: str
    payment_id: str


class CoordinatorPayments(Controller):
    """Payments, one for each job."""

    path = "/v1/payments"

    @post("/", opt=NATURAL)
    async def pay(self, ai: Ai, who: Who, data: JSONBody[Pay]) -> Response[Payment]:
        """The payment that a job has had since it was submitted; a larger amount is held while the job waits."""
        paid = await ai.job_payments.pay(who, data.job_id, units_of(data.amount, "/amount"))
        return Response(payment_of(paid.job), status_code=201)

    @get(["/{payment:str}", "/{payment:str}/receipt"], opt=READ)
    async def payment(self, ai: Ai, who: Who, payment: FromPath[str]) -> Payment:
        """A payment; the signed receipt of a paid job is at `/api/v1/trading/receipts`."""
        return payment_of((await ai.job_payments.get(who, payment)).job)

    @post("/{payment:str}/release", status_code=200, opt=NATURAL)
    async def release(self, ai: Ai, who: Who, payment: FromPath[str]) -> PaymentMoved:
        """Released is what an accepted result has paid; nobody's word can do it."""
        await ai.job_payments.require_released(who, payment)
        return PaymentMoved(status="released", payment_id=payment)

    @post("/{payment:str}/refund", status_code=200, opt=CREATE)
    async def refund(self, ai: Ai, who: Who, once: Once, payment: FromPath[str]) -> PaymentMoved:
        """Give the money back: the job is cancelled if it has not ended."""
        await ai.job_payments.refund(who, payment, once)
        return PaymentMoved(status="refunded", payment_id=payment)
