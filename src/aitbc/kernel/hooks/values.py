"""What a plugin keeps from one call to the next: values by key, within a quota, written behind."""

from collections.abc import Mapping

KEY_BYTES_MAX = 200
VALUE_BYTES_MAX = 16 * 1024
QUOTA_BYTES = 256 * 1024
"""Keys and values of one plugin together."""


class Values:
    """The values of one plugin, as this process knows them."""

    def __init__(self, kept: Mapping[bytes, bytes] | None = None) -> None:
        self._kept = dict(kept or {})
        self._used = sum(len(key) + len(value) for key, value in self._kept.items())
        self._changed: dict[bytes, bytes] = {}

    def get(self, key: bytes) -> bytes | None:
        """The value of a key; none where there is none."""
        return self._kept.get(key)

    def put(self, key: bytes, value: bytes) -> bool:
        """Keep a value; false for one that is too large, or that the quota has no room for."""
        if not 0 < len(key) <= KEY_BYTES_MAX or len(value) > VALUE_BYTES_MAX:
            return False
        before = self._kept.get(key)
        used = self._used + len(value) - (len(before) if before is not None else -len(key))
        if used > QUOTA_BYTES:
            return False
        self._kept[key], self._used = value, used
        self._changed[key] = value
        return True

    def take_changes(self) -> Mapping[bytes, bytes]:
        """What was kept since this was asked last."""
        taken, self._changed = self._changed, {}
        return taken

    def renew(self, kept: Mapping[bytes, bytes]) -> None:
        """Know what other processes kept too; what is not written yet stays."""
        self._kept = {**kept, **self._changed}
        self._used = sum(len(key) + len(value) for key, value in self._kept.items())
