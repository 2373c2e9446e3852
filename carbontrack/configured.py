"""What the configuration makes of what plugins bring: alerts with their rules, notifications with their notifiers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

from carbontrack.alerts import RuleInstance, Scope
from carbontrack.config import AlertEntry, Config, ConfigError, Problem, check_options
from carbontrack.device import Rules
from carbontrack.dispatch import Policy
from carbontrack.factory_watch import FactoryRules
from carbontrack.hookspecs import AlertRule, FactoryRule, Notifier
from carbontrack.hours_of_day import Hours, read_hours
from carbontrack.notify import NotifierInstance
from carbontrack.plugins import Contributions, load_plugins
from carbontrack.sentry import sentry_problems
from carbontrack.tls import problems_of as tls_problems
from carbontrack.tracing import tracing_problems


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
        *sentry_problems(config),
        *tracing_problems(config),
    ]


def rule_instances(config: Config, brought: Contributions) -> tuple[Rules, FactoryRules, tuple[str, ...]]:
    """The alerts of devices and of factories that watch, with their rules, and why some are left out."""
    every, problems = all_instances(config, brought)
    return (*watching(every), problems)


AnyRule = RuleInstance[AlertRule] | RuleInstance[FactoryRule]


def watching(every: Iterable[AnyRule]) -> tuple[Rules, FactoryRules]:
    """Those of some alerts that watch: devices, and factories."""
    enabled = [instance for instance in every if instance.is_enabled]
    return (
        tuple(instance for instance in enabled if isinstance(instance.rule, AlertRule)),
        tuple(instance for instance in enabled if isinstance(instance.rule, FactoryRule)),
    )


def all_instances(config: Config, brought: Contributions) -> tuple[tuple[AnyRule, ...], tuple[str, ...]]:
    """Every configured alert with its rule, those as well that do not watch, and why some are left out."""
    every: list[AnyRule] = []
    problems: list[str] = []
    rules: dict[str, AlertRule | FactoryRule] = {**brought.alert_rules, **brought.factory_rules}
    for index, entry in enumerate(config.alerts):
        found = _chosen(config, ("alerts", index), "rule", rules, problems)
        if found is None:
            continue
        rule, options = found
        settings = entry.severity, entry.hold_s, entry.clear_after_s, _scope(config, entry), entry.enabled, entry.title
        if isinstance(rule, AlertRule):
            every.append(RuleInstance(entry.name, rule, options, *settings))
        elif entry.stacks or entry.devices:
            key = "alerts", index, "stacks" if entry.stacks else "devices"
            text = f"the rule {entry.rule!r} watches factories as a whole: name factories, not stacks or devices"
            problems.append(str(Problem(config.place(key), key, text)))
        else:
            every.append(RuleInstance(entry.name, rule, options, *settings))
    return tuple(every), tuple(problems)


def _scope(config: Config, entry: AlertEntry) -> Scope:
    hours = Hours(*read_hours(entry.hours), ZoneInfo(config.site.time_zone)) if entry.hours is not None else None
    return Scope(frozenset(entry.factories), frozenset(entry.stacks), frozenset(entry.devices), hours)


def policy_of(config: Config) -> Policy:
    """How people are told, as the configuration says it."""
    told = config.alerting
    return Policy(
        zone=ZoneInfo(config.site.time_zone),
        fold=timedelta(seconds=told.fold_s),
        critical_fold=timedelta(seconds=told.critical_fold_s),
        network_from=told.network_from,
        repeat_every=timedelta(minutes=told.repeat_every_min) if told.repeat_every_min else None,
        escalate_after=timedelta(minutes=told.escalate_after_min) if told.escalate_after_min else None,
        quiet=read_hours(told.quiet_hours) if told.quiet_hours is not None else None,
        quiet_severities=frozenset(told.quiet_severities),
    )


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
