"""Fixtures for the tests of a plugin's project: ``pytest_plugins = ["carbontrack.testing.fixtures"]``.

``core`` needs pytest-asyncio (or pytest-aiohttp) with ``asyncio_mode = "auto"``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from carbontrack.testing.core import RunningCore, running_core
from carbontrack.testing.loading import Project, as_installed, leaks, read_project


@pytest.fixture
def project(request: pytest.FixtureRequest) -> Iterator[Project]:
    """The project that is being tested, as if pip had installed it: ``load_plugin("my_name")`` finds its plugins."""
    with as_installed(request.config.rootpath) as found:
        yield found


@pytest.fixture
async def core(request: pytest.FixtureRequest) -> AsyncIterator[RunningCore]:
    """A running core with the project's plugins, ours, and a device; nothing of it may be left behind.

    A test that needs options, alerts or another sensor opens its own: ``running_core(project.folder, sensor=...)``.
    """
    folder: Path = request.config.rootpath
    read_project(folder)
    async with leaks(), running_core(folder) as running:
        yield running
