"""An OpenAI-compatible server for one GGUF file, by llama.cpp: `python -m … FILE NAME PORT SLOTS`, until a signal.

It needs the package xllamacpp (`pip install 'aitbc[llm]'`), whose builds are for the processor, for CUDA or for Vulkan.
"""

import importlib
import os
import signal
import sys
from typing import Any

from aitbc_cli.miner.serving.declared import CONTEXT_TOKENS

MISSING = "the package xllamacpp is not here; install it with: pip install 'aitbc[llm]'"


def serve(file: str, name: str, *, port: int | None = None, slots: int) -> Any:
    """Start the server, on a port of its own choice unless one is given; answers it once it listens.

    Raises `RuntimeError` where the file cannot be loaded.
    """
    xllamacpp: Any = importlib.import_module("xllamacpp")
    settings = xllamacpp.CommonParams()
    settings.model.path = file
    settings.model_alias = {name}
    settings.hostnames = ["127.0.0.1"]
    if port is not None:
        settings.port = port
    settings.n_ctx, settings.n_parallel = CONTEXT_TOKENS * slots, slots
    settings.cpuparams.n_threads = os.cpu_count() or 1
    settings.warmup = False
    return xllamacpp.Server(settings)


def wait_for_a_signal() -> None:
    """Serve on, and end at once: the server's threads have nothing to save, and do not end by themselves."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        signal.pause()
    except KeyboardInterrupt:
        os._exit(0)


def main() -> None:
    """Serve as the arguments say."""
    file, name, port, slots = sys.argv[1:]
    try:
        _server = serve(file, name, port=int(port), slots=int(slots))
    except ModuleNotFoundError:
        sys.exit(MISSING)
    wait_for_a_signal()


if __name__ == "__main__":
    main()
