"""The Python client: jobs, quotes, receipts, miners, the market and budgets, in types; blocking and asynchronous."""

from aitbc.client.asynchronous import AsyncClient
from aitbc.client.blocking import Client
from aitbc.client.events import JobNews

__all__ = ["AsyncClient", "Client", "JobNews"]
