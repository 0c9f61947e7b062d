"""Requests of these protocols and their answers, as the reference shows them."""

from typing import Any

from aitbc.kernel.http.dialects import Shown

ID = "01k0000000000000000000000a"
MADE = 1_893_456_000
RECEIPT: dict[str, Any] = {
    "job": f"job_{ID}",
    "model": "llama-3-8b",
    "price": "0.0000126",
    "units": 63,
    "unit": "byte",
    "unit_price": "0.0000002",
    "receipt": f"rcpt_{ID}",
    "miner": f"mnr_{ID}",
    "attempts": 1,
    "tokens": "counted by the model's server",
}
USAGE = {"prompt_tokens": 14, "completion_tokens": 9, "total_tokens": 23}
QUESTION = [{"role": "user", "content": "Why is the sky blue?"}]
WORDS = "Because blue light is scattered most."
MODEL: dict[str, Any] = {
    "id": "llama-3-8b",
    "object": "model",
    "created": 0,
    "owned_by": "miners",
    "aitbc": {
        "kinds": [
            {
                "kind": "chat",
                "unit": "byte",
                "unit_price": "0.0000002",
                "miners_online": 3,
                "slots": 12,
                "context": None,
                "modalities": None,
            }
        ]
    },
}
FILE: dict[str, Any] = {
    "id": f"file_{ID}",
    "object": "file",
    "bytes": 1_204,
    "created_at": MADE,
    "expires_at": MADE + 604_800,
    "filename": "requests.jsonl",
    "purpose": "batch",
    "status": "processed",
    "status_details": None,
    "aitbc": {"artifact": f"art_{ID}"},
}
BATCH: dict[str, Any] = {
    "id": f"batch_{ID}",
    "object": "batch",
    "endpoint": "/v1/chat/completions",
    "model": "llama-3-8b",
    "errors": None,
    "input_file_id": f"file_{ID}",
    "completion_window": "24h",
    "status": "completed",
    "output_file_id": f"file_{ID}",
    "error_file_id": None,
    "created_at": MADE,
    "in_progress_at": MADE + 1,
    "expires_at": MADE + 86_400,
    "finalizing_at": MADE + 60,
    "cancelling_at": None,
    "completed_at": MADE + 61,
    "failed_at": None,
    "expired_at": None,
    "cancelled_at": None,
    "request_counts": {"total": 3, "completed": 3, "failed": 0},
    "metadata": {"run": "7"},
    "aitbc": {"spent": "0.0000189"},
}
RESPONSE: dict[str, Any] = {
    "id": f"resp_{ID}",
    "object": "response",
    "created_at": MADE,
    "model": "llama-3-8b",
    "status": "completed",
    "output": [
        {
            "type": "message",
            "id": f"item_{ID}_0",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": WORDS, "annotations": []}],
        }
    ],
    "usage": {"input_tokens": 14, "output_tokens": 9, "total_tokens": 23},
    "aitbc": RECEIPT,
}


def _list(item: dict[str, Any]) -> dict[str, Any]:
    return {"object": "list", "data": [item], "has_more": False, "first_id": item["id"], "last_id": item["id"]}


def shown(request: Any, answer: Any, *, streams: bool = False) -> dict[str, Any]:
    """What a route's `opt` says of its examples."""
    return {"shown": Shown(request=request, answer=answer, streams=streams)}


MODELS = shown(None, {"object": "list", "data": [MODEL], "has_more": False})
ONE_MODEL = shown(None, MODEL)
CHAT = shown(
    {"model": "llama-3-8b", "messages": QUESTION, "max_tokens": 200},
    {
        "id": f"chatcmpl-{ID}",
        "object": "chat.completion",
        "created": MADE,
        "model": "llama-3-8b",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": WORDS}, "logprobs": None, "finish_reason": "stop"}
        ],
        "usage": USAGE,
        "aitbc": RECEIPT,
    },
    streams=True,
)
COMPLETION = shown(
    {"model": "llama-3-8b", "prompt": "Why is the sky blue?", "max_tokens": 200},
    {
        "id": f"cmpl-{ID}",
        "object": "text_completion",
        "created": MADE,
        "model": "llama-3-8b",
        "choices": [{"text": WORDS, "index": 0, "logprobs": None, "finish_reason": "stop"}],
        "usage": USAGE,
        "aitbc": RECEIPT | {"prompt": "sent as one message of a user"},
    },
    streams=True,
)
EMBEDDING = shown(
    {"model": "minilm", "input": ["A sentence to embed."]},
    {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": [0.12, -0.5, 0.33]}],
        "model": "minilm",
        "usage": {"prompt_tokens": 6, "total_tokens": 6},
        "aitbc": RECEIPT,
    },
)
RERANKING = shown(
    {"model": "wordllama-256", "query": "When is high tide?", "documents": ["Add salt.", "The tide is high at noon."]},
    {
        "id": f"job_{ID}",
        "model": "wordllama-256",
        "results": [{"index": 1, "relevance_score": 0.61}, {"index": 0, "relevance_score": 0.02}],
        "usage": {"prompt_tokens": 15, "total_tokens": 15},
        "aitbc": RECEIPT,
    },
)
NEW_RESPONSE = shown({"model": "llama-3-8b", "input": "Why is the sky blue?"}, RESPONSE, streams=True)
ONE_RESPONSE = shown(None, RESPONSE)
RESPONSE_ITEMS = shown(None, _list({"id": f"item_{ID}_0", "type": "message", **QUESTION[0]}))
RESPONSE_DELETED = shown(None, {"id": f"resp_{ID}", "object": "response", "deleted": True})
NEW_FILE = shown(None, FILE)
FILES = shown(None, _list(FILE))
ONE_FILE = shown(None, FILE)
FILE_CONTENT = shown(None, None)
FILE_DELETED = shown(None, {"id": f"file_{ID}", "object": "file", "deleted": True})
NEW_BATCH = shown(
    {"input_file_id": f"file_{ID}", "endpoint": "/v1/chat/completions", "completion_window": "24h"},
    BATCH | {"status": "validating", "output_file_id": None, "completed_at": None},
)
BATCHES = shown(None, _list(BATCH))
ONE_BATCH = shown(None, BATCH)
BATCH_CANCELLED = shown(None, BATCH | {"status": "cancelling", "output_file_id": None, "completed_at": None})
MESSAGE = shown(
    {"model": "llama-3-8b", "max_tokens": 200, "messages": QUESTION},
    {
        "id": f"msg_{ID}",
        "type": "message",
        "role": "assistant",
        "model": "llama-3-8b",
        "content": [{"type": "text", "text": WORDS}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 14, "output_tokens": 9},
        "aitbc": RECEIPT,
    },
    streams=True,
)
TOKENS = shown({"model": "llama-3-8b", "messages": QUESTION}, {"input_tokens": 20, "aitbc": {"tokens": "at most"}})
