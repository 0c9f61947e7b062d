"""Xid events, in which NVIDIA's driver reports errors: which of them a program caused, and which the hardware."""

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

WAIT_MILLISECONDS = 1000
"""How long one wait for an event lasts: so late the watch ends at most."""
PROGRAMS = {
    13: "a fault of the program in the graphics engine",
    31: "the program used memory that is not its own",
    43: "the program's work was stopped after its own error",
    45: "what was left of a program that ended was stopped",
    68: "an error in the video decoder",
    69: "a wrong call to the graphics engine",
    109: "the program did not let others work in time",
}
"""What programs cause; NVIDIA's device plugin for Kubernetes passes over these too."""
INFORMATION = frozenset({63, 92, 154})
"""What asks for nothing by itself: a row was remapped, errors were corrected, another way of recovery is advised."""
HARDWARE = {
    48: "an uncorrectable memory error (ECC)",
    62: "a halt of the GPU's own microcontroller",
    64: "a row of its memory could not be remapped",
    74: "an NVLink error",
    79: "it has fallen off the bus",
    94: "a contained memory error (ECC)",
    95: "an uncontained memory error (ECC)",
    119: "its system processor (GSP) does not answer",
    120: "an error of its system processor (GSP)",
    140: "an unrecovered memory error (ECC)",
}
"""The best known of the others, in words. What is not known is taken to be the hardware's."""


class Xid(NamedTuple):
    """An event on one GPU."""

    uuid: str
    code: int

    @property
    def is_hardware(self) -> bool:
        """Whether the GPU is not to be trusted with work until it was reset."""
        return self.code not in PROGRAMS and self.code not in INFORMATION

    def __str__(self) -> str:
        said = PROGRAMS.get(self.code) or HARDWARE.get(self.code)
        return f"Xid {self.code}" + (f" ({said})" if said else "")


class XidWatch:
    """Waits for events in a thread of its own, and tells them to `on_event` in that thread."""

    def __init__(self, on_event: Callable[[Xid], None]) -> None:
        self._on_event = on_event
        self._uuids: dict[bytes, str] = {}
        """The GPUs that tell of events, by their handles: one that is lost no longer says which it is."""
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> bool:
        """Begin to wait; answers whether there is a driver that tells of events."""
        try:
            import pynvml as library

            library.nvmlInit()
        except ImportError:
            return False
        except library.NVMLError:
            return False
        try:
            events = library.nvmlEventSetCreate()
            for index in range(library.nvmlDeviceGetCount()):
                with suppress(library.NVMLError):  # one that cannot, or is lost, hides none of the others
                    handle = library.nvmlDeviceGetHandleByIndex(index)
                    library.nvmlDeviceRegisterEvents(handle, library.nvmlEventTypeXidCriticalError, events)
                    self._uuids[bytes(handle)] = library.nvmlDeviceGetUUID(handle)
        except library.NVMLError:
            self._uuids.clear()
        if not self._uuids:
            with suppress(library.NVMLError):
                library.nvmlShutdown()
            return False
        self._thread = threading.Thread(target=self._wait, args=(library, events), name="xid", daemon=True)
        self._thread.start()
        return True

    def stop(self) -> None:
        """End the wait."""
        self._ending.set()
        if self._thread is not None:
            self._thread.join(WAIT_MILLISECONDS / 1000 + 1)

    def _wait(self, library: Any, events: Any) -> None:
        while not self._ending.is_set():
            try:
                told = library.nvmlEventSetWait_v2(events, WAIT_MILLISECONDS)
            except library.NVMLError as error:
                if error.value == library.NVML_ERROR_TIMEOUT:
                    continue
                break  # the driver was unloaded: the readings tell of that
            uuid = self._uuids.get(bytes(told.device))
            if uuid is not None:
                self._on_event(Xid(uuid, int(told.eventData)))
        with suppress(library.NVMLError):
            library.nvmlShutdown()
