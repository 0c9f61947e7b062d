"""What the legacy paths take, and what they ask of a caller's key."""

from litestar.di import NamedDependency

from aitbc.modules.ai.service import AiService

Ai = NamedDependency[AiService]
"""The parameter `ai` of a handler."""
READ = {"permission": "jobs:read"}
CREATE = {"permission": "jobs:create"}
NATURAL = CREATE | {"idempotency": "natural"}
OPERATE = {"permission": "jobs:operate"}
