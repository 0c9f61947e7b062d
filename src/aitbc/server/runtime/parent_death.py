"""Asks the system to signal this process when its parent dies: system calls only, so between fork and exec too."""

import ctypes
import os

_SET_PARENT_DEATH_SIGNAL = 1
_SET_NAME = 15
_prctl = ctypes.PyDLL(None, use_errno=True).prctl
_prctl.argtypes = (ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong)
NAME_BYTES_MAX = 15


def die_with(parent: int, number: int) -> None:
    """Be sent the signal when the parent dies; ends this process with exit code 70 when it is dead already."""
    if _prctl(_SET_PARENT_DEATH_SIGNAL, number, 0, 0, 0) != 0 or os.getppid() != parent:
        os._exit(70)


def set_process_name(name: str) -> None:
    """Set the name by which `ps -o comm` and `top` show this process, cut off after 15 bytes."""
    buffer = ctypes.create_string_buffer(name.encode()[:NAME_BYTES_MAX])
    _prctl(_SET_NAME, ctypes.addressof(buffer), 0, 0, 0)
