"""The configuration: ``config/carbontrack.yaml``, secrets and the environment, checked and typed.

:mod:`~carbontrack.config.settings` holds what can be set, :mod:`~carbontrack.config.sources` reads files and
variables, :mod:`~carbontrack.config.loading` puts both together.
"""

from carbontrack.config.fields import Place
from carbontrack.config.loading import ConfigError, check_options, load_config
from carbontrack.config.reference import Key, Setting, describe
from carbontrack.config.settings import (
    AlertEntry,
    Config,
    Database,
    Devices,
    Http,
    HttpTls,
    Logging,
    Mail,
    Mqtt,
    MqttTls,
    NotificationEntry,
    Plugins,
)
from carbontrack.config.sources import Problem

__all__ = [
    "AlertEntry",
    "Config",
    "ConfigError",
    "Database",
    "Devices",
    "Http",
    "HttpTls",
    "Key",
    "Logging",
    "Mail",
    "Mqtt",
    "MqttTls",
    "NotificationEntry",
    "Place",
    "Plugins",
    "Problem",
    "Setting",
    "check_options",
    "describe",
    "load_config",
]
