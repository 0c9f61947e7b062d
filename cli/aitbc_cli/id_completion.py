"""Ids for the Tab key, asked of the server; silence where it does not answer at once."""

import os
from collections.abc import Callable
from typing import Any

SECONDS = 1.5
ROWS = 40


def ids_of(path: str, field: str = "id", shown: str = "state") -> Callable[[str], list[tuple[str, str]]]:
    """A completion of the ids of a list, each with a word about it."""

    def complete(incomplete: str) -> list[tuple[str, str]]:
        return [
            (str(row[field]), str(row.get(shown, "")))
            for row in _rows(path)
            if str(row.get(field, "")).startswith(incomplete)
        ]

    return complete


def _rows(path: str) -> list[dict[str, Any]]:
    from aitbc_cli.client import Api
    from aitbc_cli.exits import Stop
    from aitbc_cli.settings import Flags, find

    try:
        return list(Api(find(Flags(), os.environ), seconds=SECONDS).pages(path, ROWS))
    except (Stop, KeyError, TypeError):
        return []


JOBS = ids_of("/api/v1/ai/jobs")
GRAPHS = ids_of("/api/v1/ai/graphs")
STUDIES = ids_of("/api/v1/ai/studies")
SCHEDULES = ids_of("/api/v1/ai/schedules", shown="name")
MINERS = ids_of("/api/v1/gpu/miners", shown="status")
GPUS = ids_of("/api/v1/gpu/listings", shown="model")
OFFERS = ids_of("/api/v1/marketplace/offers", shown="state")
BOOKINGS = ids_of("/api/v1/gpu/bookings")
DISPUTES = ids_of("/api/v1/marketplace/disputes")
BIDS = ids_of("/api/v1/marketplace/bids")
KEYS = ids_of("/api/v1/identity/keys", shown="name")
ACCOUNTS = ids_of("/api/v1/identity/accounts", shown="name")
RECEIPTS = ids_of("/api/v1/trading/receipts", shown="kind")
TRANSACTIONS = ids_of("/api/v1/trading/transactions", shown="kind")
REQUESTS = ids_of("/api/v1/trading/requests")
MATCHES = ids_of("/api/v1/trading/matches")
NEGOTIATIONS = ids_of("/api/v1/trading/negotiations")
AGREEMENTS = ids_of("/api/v1/trading/agreements")
SETTLEMENTS = ids_of("/api/v1/trading/settlements")
EVENTS = ids_of("/api/v1/operations/events", shown="state")
ENDPOINTS = ids_of("/api/v1/webhooks/endpoints", shown="url")
DELIVERIES = ids_of("/api/v1/webhooks/deliveries", shown="state")
AGENTS = ids_of("/api/v1/hermes/agents", shown="name")
AGENT_RUNS = ids_of("/api/v1/hermes/runs")
EDGES = ids_of("/api/v1/hermes/edges", field="miner", shown="location")
DEPLOYMENTS = ids_of("/api/v1/hermes/deployments", shown="name")
PROPOSALS = ids_of("/api/v1/governance/proposals", shown="title")
MONITORS = ids_of("/api/v1/monitoring/monitors", shown="name")
RULES = ids_of("/api/v1/monitoring/alert-rules", shown="name")
