"""What legacy miners write freely, in our own terms: capabilities, results, failures and model fits."""

from typing import Any

import pytest

from aitbc.kernel.primitives.errors import Invalid
from aitbc.modules.gpu.legacy.capabilities import read_capabilities
from aitbc.modules.gpu.legacy.outputs import output_of, says_failed, usage_of
from aitbc.modules.gpu.models.catalogue import is_consumer
from aitbc.modules.gpu.models.model_fit import fit
from aitbc.modules.gpu.service.legacy_work import reason_of


@pytest.mark.parametrize(
    ("told", "memory", "count"),
    [
        ({"gpu": "RTX 4090", "gpu_memory": 24576}, 24576, 1),
        ({"gpu": {"model": "RTX 4090", "memory_gb": 24}}, 24576, 1),
        ({"gpu": {"name": "RTX 4090", "memory": "24GB"}}, 24576, 1),
        ({"gpu": {"name": "RTX 4090", "memory": 24}}, 24576, 1),
        ({"gpu": {"name": "RTX 4090", "memory": 24576}}, 24576, 1),
        ({"gpus": [{"name": "RTX 4090", "memory_mb": 24576}, {"name": "RTX 3060", "memory_gb": 12}]}, 24576, 2),
        ({"gpu": "RTX 4090", "gpu_memory_gb": 24, "gpu_count": 4}, 24576, 4),
        ({"gpu_memory": 8192}, 8192, 1),
        ({"gpu": "RTX 4090"}, 0, 1),
        ({}, 0, 0),
    ],
)
def test_gpus_and_their_memory_are_found_wherever_they_are_told(told: dict[str, Any], memory: int, count: int) -> None:
    found = read_capabilities(told, None)
    assert (found.offer.vram_mib, len(found.inventory.devices)) == (memory, count)
    assert found.offer.device == ("gpu" if count else "cpu")


def test_a_miner_that_names_no_kinds_answers_prompts_with_its_models() -> None:
    found = read_capabilities({"supported_models": ["llama3:8b"], "pricing_per_hour": 0.1}, "eu")
    assert (found.offer.kinds, found.offer.models) == (("chat",), {"chat": ("llama3:8b",)})
    assert (found.price_units, found.offer.region) == (10_000_000, "eu")
    assert read_capabilities({"kinds": ["embed"], "models": ["x"]}, None).offer.models == {}


@pytest.mark.parametrize(
    "result",
    [
        "Four.",
        {"output": "Four."},
        {"response": "Four.", "provider": "ollama"},
        {"text": "Four."},
        {"output": {"response": "Four."}},
        {"message": {"role": "assistant", "content": "Four."}, "other": 1},
    ],
    ids=str,
)
def test_an_answer_is_found_under_every_name_it_had(result: Any) -> None:
    assert output_of("chat", result)["message"] == {"role": "assistant", "content": "Four."}


def test_vectors_pass_and_nothing_is_made_up_for_them() -> None:
    found = output_of("embed", {"embeddings": [[1.0, 2.0]], "model": "m"})
    assert found == {"model": "m", "dimensions": 2, "vectors": [[1.0, 2.0]]}
    for broken in ({"vectors": [[1.0]]}, {"model": "m"}, {"model": "m", "vectors": []}, "words", None):
        with pytest.raises(Invalid):
            output_of("embed", broken)
    with pytest.raises(Invalid):
        output_of("chat", {"tokens": 3})


def test_only_whole_numbers_count_as_usage() -> None:
    found = usage_of({"eval_count": 4, "time": 1.5}, {"duration_ms": 5, "fine": True, "less": -1, "x" * 41: 1})
    assert found == {"eval_count": 4, "duration_ms": 5, "completion_tokens": 4}
    assert len(usage_of({f"n{number}": number for number in range(99)}, {})) == 32


def test_what_says_that_it_failed_failed() -> None:
    assert says_failed({"status": "FAILED"}, success=None)
    assert says_failed({}, success=False)
    assert not says_failed({"output": "words"}, success=False)
    assert not says_failed({"status": "completed"}, success=None)
    assert reason_of("INVALID_INPUT") == ("invalid_input", "requester")
    assert reason_of("CUDA out of memory!") == ("cuda_out_of_memory", "unknown")
    assert reason_of("500") == ("failed", "unknown")


@pytest.mark.parametrize(
    ("model", "memory", "precision"),
    [
        ("llama-7b", 24576, "fp16"),
        ("llama2:13b", 24576, "int8"),
        ("llama-70b", 49152, "int4"),
        ("llama-70b", 24576, None),
        ("mixtral-8x7b", 49152, "int4"),
        ("mystery", 24576, None),
        ("llama-7b", None, None),
    ],
)
def test_a_plan_is_arithmetic_and_promises_nothing(model: str, memory: int | None, precision: str | None) -> None:
    assert fit(memory, model).precision == precision


@pytest.mark.parametrize(
    ("name", "consumer"),
    [
        ("NVIDIA GeForce RTX 4090", True),
        ("RTX 3060", True),
        ("GTX 1660", True),
        ("NVIDIA H100 80GB HBM3", False),
        ("NVIDIA RTX 6000 Ada Generation", False),
        ("NVIDIA RTX A6000", False),
        (None, False),
    ],
)
def test_consumer_gpus_are_told_from_others_by_their_names(name: str | None, consumer: bool) -> None:
    assert is_consumer(name) is consumer
