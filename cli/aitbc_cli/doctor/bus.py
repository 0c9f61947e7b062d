"""The bus: a NATS server, where one is configured, that carries events and wake-ups between the processes."""

from aitbc_cli.doctor.case import Case
from aitbc_cli.doctor.finding import Check, Finding, ok, warning


def bus(case: Case) -> Finding:
    """The NATS server answers, and has JetStream."""
    settings = case.settings.nats
    if settings.url is None:
        return ok("no NATS server is configured: the processes reach each other directly")
    from aitbc.server.cluster.nats import reason_of

    reason = reason_of(settings)
    if reason is None:
        return ok("the NATS server answers, with JetStream")
    origin = case.load().origins.get("nats.url", "the configuration")
    start = f"sudo systemctl start nats-server  # with `jetstream {{}}` in its configuration; or correct nats.url ({origin})"
    return warning(f"{reason}; events and news go without it meanwhile", start)


CHECKS = (Check("bus", "the NATS server carries events", bus),)
