"""What plugin authors test with. It needs no pytest; fixtures for pytest are in ``carbontrack.testing.fixtures``.

pytest_plugins = ["carbontrack.testing.fixtures"]
"""

from carbontrack.plugins.loading import LoadError
from carbontrack.testing.compliance import SEAL_KEY, compliance_report, empty_compliance_report
from carbontrack.testing.core import RunningCore, eventually, make_database, running_core
from carbontrack.testing.examples import (
    FACTORY,
    NOON,
    RECIPIENT,
    SITE,
    STACK,
    empty_report,
    example_options,
    factory_facts,
    notification,
    observation,
    payload,
    reading,
    report,
    snapshot,
)
from carbontrack.testing.loading import LoadedPlugin, as_installed, leaks, load_plugin
from carbontrack.testing.vectors import Vector, VectorError, check_frames, check_sensor, read_vectors

__all__ = [
    "FACTORY",
    "NOON",
    "RECIPIENT",
    "SEAL_KEY",
    "SITE",
    "STACK",
    "LoadError",
    "LoadedPlugin",
    "RunningCore",
    "Vector",
    "VectorError",
    "as_installed",
    "check_frames",
    "check_sensor",
    "compliance_report",
    "empty_compliance_report",
    "empty_report",
    "eventually",
    "example_options",
    "factory_facts",
    "leaks",
    "load_plugin",
    "make_database",
    "notification",
    "observation",
    "payload",
    "read_vectors",
    "reading",
    "report",
    "running_core",
    "snapshot",
]
