"""Plugins by hand: one hook of one module, with options and with the frame decoders that others bring."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import signature
from types import ModuleType
from typing import Any

from carbontrack import FrameDecoder, Manifest


@dataclass
class FakePlugin:
    """What a plugin is given of the core; ``frame_decoders`` may change while it is loaded."""

    name: str
    options: Any = None
    frame_decoders: Mapping[str, FrameDecoder] = field(default_factory=dict)

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
