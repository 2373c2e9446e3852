"""A simulated node's flash memory: one file for each device."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec


class Memory:
    """The file of one node. Without a folder nothing is kept."""

    def __init__(self, folder: Path | None, device_id: str) -> None:
        self._path = None if folder is None else folder / f"{device_id}.json"

    def load(self) -> dict[str, Any] | None:
        """What was saved last; None if nothing ever was."""
        if self._path is None or not self._path.exists():
            return None
        return msgspec.json.decode(self._path.read_bytes(), type=dict[str, Any])

    def save(self, state: dict[str, Any]) -> None:
        """Replace what is kept, wholly or not at all."""
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        draft = self._path.with_suffix(".new")
        with draft.open("wb") as file:
            file.write(msgspec.json.encode(state))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._path)
