"""What the configuration makes of what plugins bring: alerts with their rules, notifications with their notifiers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from carbontrack.alerts import RuleInstance
from carbontrack.config import Config, ConfigError, Problem, check_options
from carbontrack.device import Rules
from carbontrack.factory_watch import FactoryRules
from carbontrack.hookspecs import AlertRule, FactoryRule, Notifier
from carbontrack.notify import NotifierInstance
from carbontrack.plugins import Contributions, load_plugins
from carbontrack.tls import problems_of as tls_problems


def problems_of(config: Config) -> list[str]:
    """All that is wrong with a configuration that can be read: of plugins, options, alerts, and of our certificate."""
    plugins = load_plugins(config)
    left_out = [
        *rule_instances(config, plugins.contributions)[2],
        *notifier_instances(config, plugins.contributions)[1],
    ]
    return [
        *(f"plugin {status.name}: {status.error}" for status in plugins.statuses if status.error),
        *left_out,
        *tls_problems(config),
    ]


def rule_instances(config: Config, brought: Contributions) -> tuple[Rules, FactoryRules, tuple[str, ...]]:
    """The configured alerts of devices and of factories with their rules, and why some are left out."""
    of_devices: list[RuleInstance[AlertRule]] = []
    of_factories: list[RuleInstance[FactoryRule]] = []
    problems: list[str] = []
    rules: dict[str, AlertRule | FactoryRule] = {**brought.alert_rules, **brought.factory_rules}
    for index, entry in enumerate(config.alerts):
        found = _chosen(config, ("alerts", index), "rule", rules, problems)
        if found is None:
            continue
        rule, options = found
        settings = entry.severity, entry.hold_s, entry.clear_after_s
        if isinstance(rule, AlertRule):
            of_devices.append(RuleInstance(entry.name, rule, options, *settings))
        else:
            of_factories.append(RuleInstance(entry.name, rule, options, *settings))
    return tuple(of_devices), tuple(of_factories), tuple(problems)


def notifier_instances(config: Config, brought: Contributions) -> tuple[tuple[NotifierInstance, ...], tuple[str, ...]]:
    """The configured notifications with their notifiers, and why some are left out."""
    instances = []
    problems: list[str] = []
    for index, entry in enumerate(config.notifications):
        found = _chosen(config, ("notifications", index), "notifier", brought.notifiers, problems)
        if found is not None:
            instances.append(NotifierInstance(entry.name, *found, entry.min_severity))
    return tuple(instances), tuple(problems)


Family = TypeVar("Family", bound=AlertRule | FactoryRule | Notifier)


def _chosen(
    config: Config, key: tuple[str, int], field: str, known: Mapping[str, Family], problems: list[str]
) -> tuple[Family, Any] | None:
    """What an entry of a list asks for, and its options; None with a problem more where it cannot be used."""
    entry = getattr(config, key[0])[key[1]]
    name = getattr(entry, field)
    family = known.get(name)
    if family is None:
        text = f"no plugin that runs brings the {field} {name!r}; there are: {', '.join(sorted(known))}"
        problems.append(str(Problem(config.place((*key, field)), (*key, field), text)))
        return None
    try:
        return family, check_options(config, (*key, "options"), family.options_model, entry.options)
    except ConfigError as error:
        problems += map(str, error.problems)
        return None
