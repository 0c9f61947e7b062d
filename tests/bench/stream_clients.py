"""Clients that read streams at once: `python -m tests.bench.stream_clients` with a plan on standard input, as JSON.

It prints the seconds to each stream's first text, and how long all took.
"""

import asyncio
import json
import sys
from typing import Any

import aiohttp

SECONDS = 120


async def one(session: aiohttp.ClientSession, plan: dict[str, Any]) -> dict[str, float]:
    """One stream."""
    loop = asyncio.get_running_loop()
    body = {
        "model": plan["model"],
        "messages": [{"role": "user", "content": "go on"}],
        "max_tokens": plan["tokens"],
        "stream": True,
    }
    begun, first, characters = loop.time(), 0.0, 0
    async with session.post(plan["url"] + "/v1/chat/completions", json=body) as answer:
        assert answer.status == 200, await answer.text()
        async for line in answer.content:
            if not line.startswith(b"data: {"):
                continue
            chunk = json.loads(line[6:])
            assert "error" not in chunk, chunk
            text = chunk["choices"][0]["delta"].get("content") if chunk["choices"] else None
            if text:
                first = first or loop.time() - begun
                characters += len(text)
    return {"first": first, "seconds": loop.time() - begun, "characters": characters}


async def main(plan: dict[str, Any]) -> list[dict[str, float]]:
    """All streams, each begun a little after the one before."""
    headers = {"Authorization": f"Bearer {plan['key']}"}
    timeout, connector = aiohttp.ClientTimeout(total=SECONDS), aiohttp.TCPConnector(limit=0)

    async with aiohttp.ClientSession(headers=headers, timeout=timeout, connector=connector) as session:

        async def begun(number: int) -> dict[str, float]:
            await asyncio.sleep(number * plan["apart_seconds"])
            return await one(session, plan)

        return await asyncio.gather(*map(begun, range(plan["streams"])))


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(json.load(sys.stdin)))))
