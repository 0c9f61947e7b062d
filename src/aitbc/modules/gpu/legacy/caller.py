"""Who a legacy miner is, and what the legacy paths ask of a caller's key."""

from litestar.di import NamedDependency

from aitbc.kernel.legacy.caller import CallerName
from aitbc.modules.gpu.service import GpuService

Gpu = NamedDependency[GpuService]
"""The parameter `gpu` of a handler."""

MINER = CallerName(header="x-miner-id", field="miner_id")

READ = {"permission": "miners:read"}
READ_BY_POST = READ | {"idempotency": "natural"}
"""Reads that the legacy dialect wrote as POST."""
ENROL = {"permission": "miners:enrol", "idempotency": "natural"}
MANAGE_ONCE = {"permission": "miners:manage"}
"""What takes an Idempotency-Key."""
MANAGE = MANAGE_ONCE | {"idempotency": "natural"}
AS_MINER = MANAGE | {"alternative": "miners:work"}
"""What a miner's own key, its `session_token`, may do as well: for this miner alone."""
POLL = AS_MINER | {"waits": True}
READ_AS_MINER = READ | {"alternative": "miners:work"}
READ_BY_POST_AS_MINER = READ_BY_POST | {"alternative": "miners:work"}
UPDATE = ENROL | {"alternative": "miners:work"}
