"""The configuration: ``config/carbontrack.yaml``, secrets and the environment, checked and typed.

:mod:`~carbontrack.config.settings` holds what can be set, :mod:`~carbontrack.config.sources` reads files and
variables, :mod:`~carbontrack.config.loading` puts both together.
"""

from carbontrack.config.loading import ConfigError, load_config
from carbontrack.config.reference import Setting, describe
from carbontrack.config.settings import (
    AlertEntry,
    Config,
    Database,
    Devices,
    Http,
    Logging,
    Mqtt,
    MqttTls,
    NotificationEntry,
    Plugins,
)
from carbontrack.config.sources import Place, Problem

__all__ = [
    "AlertEntry",
    "Config",
    "ConfigError",
    "Database",
    "Devices",
    "Http",
    "Logging",
    "Mqtt",
    "MqttTls",
    "NotificationEntry",
    "Place",
    "Plugins",
    "Problem",
    "Setting",
    "describe",
    "load_config",
]
