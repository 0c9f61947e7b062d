"""The words that the legacy dialect has for kinds of work: several for one kind, and one by which it is called back."""

from collections.abc import Mapping

ALIASES: Mapping[str, str] = {
    **dict.fromkeys(("embedding", "embeddings", "text_embedding"), "embed"),
    **dict.fromkeys(("text_recognition", "image_to_text"), "ocr"),
    **dict.fromkeys(
        ("inference", "llm", "llm_inference", "text", "text_generation", "generation", "completion", "ollama"), "chat"
    ),
}
"""By type of task: the kind of work. A kind's own name is understood too."""
WORDS: Mapping[str, str] = {"chat": "inference"}
"""By kind of work: its type of task, where that is another word than the kind's own name."""


def kind_named(task: str) -> str:
    """The kind of work that a type of task means, in any case and with either dash; the word itself where none is
    known."""
    name = task.lower().replace("-", "_")
    return ALIASES.get(name, name)


def task_of(kind: str) -> str:
    """The type of task by which legacy clients and miners know a kind of work."""
    return WORDS.get(kind, kind)
