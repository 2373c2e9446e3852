"""Plugins by hand: one hook of one module, with options and with the frame decoders that others bring.

PYTEST_DONT_REWRITE, as in ``tests.support.world``.
"""

from __future__ import annotations

import sys
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import signature
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from carbontrack import FrameDecoder, Manifest, Outbound
from carbontrack.outbound import Ways


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A plugins folder; what it brought is forgotten afterwards."""
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("carbontrack_plugin_"):
            del sys.modules[name]


@dataclass
class FakePlugin:
    """What a plugin is given of the core; ``frame_decoders`` may change while it is loaded."""

    name: str
    options: Any = None
    frame_decoders: Mapping[str, FrameDecoder] = field(default_factory=dict)
    outbound: Outbound = field(default_factory=Ways)

    @classmethod
    def of(cls, manifest: Manifest, options: Mapping[str, Any]) -> FakePlugin:
        """With options as the configuration has them."""
        model = manifest.options_model
        return cls(manifest.name, None if model is None else model.model_validate(options))

    def start(self, job: Coroutine[Any, Any, None], name: str) -> None:
        raise NotImplementedError(f"{self.name} starts {name}: {job}")


def brought(module: ModuleType, hook: str, plugin: FakePlugin) -> Sequence[object]:
    """What a module's hook gives; it may leave out the argument."""
    function = getattr(module, hook)
    return list(function(plugin) if signature(function).parameters else function())
