"""Alert rules and alerts."""

from litestar import Controller, delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.http.positions import after_id
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.pagination import Cursor, InvalidCursor, Limit, Page
from aitbc.modules.monitoring.api import Alert
from aitbc.modules.monitoring.models.declarations import UnusableDeclaration, WantedRule
from aitbc.modules.monitoring.routes.monitors import READ, WRITE
from aitbc.modules.monitoring.service.alert_rules import AlertRule, AlertRules, RuleExists, RuleNotFound, TooManyRules
from aitbc.modules.monitoring.service.monitors import DeclaredElsewhere


class AlertController(Controller):
    """When somebody is told, and what they were told."""

    path = "/alerts"
    tags = ("monitoring",)

    @get("/", operation_id="list_alerts", summary="List alerts", opt={"permission": READ, "errors": (InvalidCursor,)})
    async def alerts(
        self,
        alert_rules: NamedDependency[AlertRules],
        firing: FromQuery[bool] = False,
        limit: FromQuery[Limit] = 50,
        cursor: FromQuery[Cursor] = None,
    ) -> Page[Alert]:
        """List alerts, newest first; with `firing` only those that are not cleared."""
        before = after_id("alerts", cursor, "alrt", bound_to=(str(firing),))
        found = await alert_rules.alerts(firing_only=firing, limit=limit + 1, before=before)
        return Page.of("alerts", found, limit, lambda alert: alert.id, bound_to=(str(firing),))


class RuleController(Controller):
    """Alert rules."""

    path = "/alert-rules"
    tags = ("monitoring",)

    @post(
        "/",
        operation_id="create_alert_rule",
        summary="Create an alert rule",
        opt={"permission": WRITE, "errors": (RuleExists, TooManyRules, UnusableDeclaration)},
    )
    async def create(
        self,
        alert_rules: NamedDependency[AlertRules],
        who: NamedDependency[Principal],
        once: NamedDependency[IdempotencyKey],
        data: JSONBody[WantedRule],
    ) -> AlertRule:
        """Declare when somebody is to be told; it holds at once.

        The webhooks of the caller's account are told, with events of the type `monitoring.alerts_changed`.
        """
        return await alert_rules.create(who, data, once)

    @get("/", operation_id="list_alert_rules", summary="List alert rules", opt={"permission": READ})
    async def list_rules(self, alert_rules: NamedDependency[AlertRules]) -> Page[AlertRule]:
        """List every rule with where it was declared, by name; one page has them all."""
        return Page(data=list(await alert_rules.list_all()))

    @delete(
        "/{rule:str}",
        operation_id="delete_alert_rule",
        summary="Delete an alert rule",
        status_code=200,
        opt={"permission": WRITE, "idempotency": "natural", "errors": (RuleNotFound, DeclaredElsewhere)},
    )
    async def remove(
        self, alert_rules: NamedDependency[AlertRules], who: NamedDependency[Principal], rule: FromPath[str]
    ) -> AlertRule:
        """Delete a rule that was declared over the API; its alerts are cleared."""
        return await alert_rules.remove(who, rule)
