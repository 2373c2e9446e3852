"""Plugins: first-party ones, installed ones, and a folder of the operator's; each fenced from the others.

``finding`` knows where they are, ``loading`` reads one, ``contributions`` checks what it brings, ``host`` gives all of
them a life in a running core, ``rendering`` runs a report format in a process of its own. Here: plugins without a core,
for the command line.
"""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

from carbontrack.config import Config
from carbontrack.fence import Fence, Watch
from carbontrack.hookspecs import FrameDecoder, Outbound, PluginState, PluginStatus
from carbontrack.outbound import Ways
from carbontrack.plugins.contributions import Contributions, collect, joined
from carbontrack.plugins.finding import FIRST_PARTY, Found, choose
from carbontrack.plugins.host import Changes, PluginHost
from carbontrack.plugins.loading import Loaded, LoadError, load
from carbontrack.plugins.rendering import Limits, RenderError

__all__ = [
    "FIRST_PARTY",
    "Changes",
    "Contributions",
    "Limits",
    "PluginHost",
    "Plugins",
    "RenderError",
    "collect_alone",
    "load_plugins",
]


@dataclass(slots=True)
class Plugins:
    """Plugins that are loaded and not set up: what they bring, how they stand, where each is from."""

    contributions: Contributions = field(default_factory=Contributions)
    statuses: list[PluginStatus] = field(default_factory=list)
    found: dict[str, Found] = field(default_factory=dict)

    def whose_format(self, name: str, noun: str = "report format") -> Found:
        """Where the plugin is from that brings a report format, or a compliance format. Raises KeyError without one."""
        brings = f"{noun} {name}"
        for status in self.statuses:
            if brings in status.brings:
                return self.found[status.name]
        raise KeyError(name)


class _Alone:
    """What a plugin is given where no core runs: its options, but nothing that would have to end."""

    def __init__(self, loaded: Loaded, decoders: Mapping[str, FrameDecoder]) -> None:
        self.name = loaded.manifest.name
        self.options: Any = loaded.options
        self.frame_decoders = decoders
        self.outbound: Outbound = Ways()

    def start(self, job: Coroutine[Any, Any, None], name: str) -> None:
        job.close()
        raise RuntimeError(f"{self.name}: {name} was started by a register_ hook; start it in set_up")


def collect_alone(
    loaded: Loaded, decoders: Mapping[str, FrameDecoder] | None = None, watch: Watch | None = None
) -> Contributions:
    """What one loaded plugin brings, without its being set up. Raises what its hooks raise."""
    fence = Fence(loaded.manifest.name, watch or Watch())
    return collect(loaded.manager, loaded.manifest, _Alone(loaded, decoders if decoders is not None else {}), fence)


def load_plugins(config: Config | None = None) -> Plugins:
    """Load every plugin that is enabled; one that fails is among the statuses with its error and brings nothing."""
    config = config or Config()
    chosen, out, order = choose(config)
    plugins = Plugins()
    decoders: dict[str, FrameDecoder] = {}
    statuses = dict(out)
    for name, found in chosen.items():
        try:
            loaded = load(found, config)
        except LoadError as error:
            statuses[name] = PluginStatus(
                name, found.origin, PluginState.PARKED, error.manifest, error=str(error), advice=error.advice
            )
            continue
        statuses[name], brought = _collected(loaded, plugins.contributions, decoders)
        plugins.found[name] = found
        plugins.contributions = joined((plugins.contributions, brought))
        decoders.update(brought.frame_decoders)
    plugins.statuses = [statuses[name] for name in order]
    return plugins


def _collected(
    loaded: Loaded, others: Contributions, decoders: Mapping[str, FrameDecoder]
) -> tuple[PluginStatus, Contributions]:
    name, origin = loaded.manifest.name, loaded.found.origin
    try:
        brought = collect_alone(loaded, decoders)
        if clash := brought.clash(others):
            raise ValueError(f"the name of its {clash} is taken by another plugin")  # noqa: TRY301  # as its like
    except Exception as error:  # noqa: BLE001  # a plugin may raise whatever it likes
        text = f"{type(error).__name__}: {error}"
        failed = PluginStatus(name, origin, PluginState.PARKED, loaded.manifest, error=text, advice="Mend it.")
        return failed, Contributions()
    status = PluginStatus(
        name, origin, PluginState.RUNNING, loaded.manifest, brings=brought.named(), notes=loaded.notes
    )
    return status, brought
