"""The HTTP of the audit of payments."""

from litestar import Controller, post
from litestar.di import NamedDependency

from aitbc.modules.ai.service.payment_audit import PaymentAudit, PaymentReport


class PaymentController(Controller):
    """Payments, for the operator."""

    path = "/payments"
    tags = ("ai",)

    @post(
        "/verify",
        operation_id="verify_payments",
        summary="Verify that what succeeded is paid",
        status_code=200,
        opt={"permission": "ledger:audit", "idempotency": "natural"},
    )
    async def verify(self, payment_audit: NamedDependency[PaymentAudit]) -> PaymentReport:
        """Compare every job that succeeded with the receipts of the ledger, and name those that have none.

        A job that succeeded within the last minute is left out: its payment may be under way.
        """
        return await payment_audit.verify()
