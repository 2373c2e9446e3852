"""What the default alerts find and how often they ring for nothing: simulated months, with and without faults.

``python -m benchmarks alerts`` takes some minutes and prints the tables of docs/performance.md.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from dataclasses import replace
from datetime import date
from inspect import unwrap

from carbontrack.alerts import RuleInstance
from carbontrack.config import Config
from carbontrack.configured import rule_instances
from carbontrack.hookspecs import FactoryFacts, FactoryRule
from carbontrack.plugins import load_plugins
from carbontrack.simulator import demo_fleet
from carbontrack.simulator.alarms import CASES, Found, table, watch
from carbontrack.simulator.score import SCENARIOS, Score, month_start, score

DRIFTS = ("span drift", "zero drift", "sample line", "thermocouple loose", "anemometer fouled")
"""What no reading shows: only a month's fuel does."""


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks alerts", description=__doc__)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--step", type=int, default=30, help="seconds from one reading to the next")
    parser.add_argument("--chimneys", type=int, default=3, help="for each fault")
    parser.add_argument("--healthy", type=int, default=16, help="chimneys without a fault")
    options = parser.parse_args(arguments)
    began = time.perf_counter()
    config = Config()
    rules, factory_rules, problems = rule_instances(config, load_plugins(config).contributions)
    assert not problems, problems
    bare = [replace(rule, rule=replace(rule.rule, evaluate=unwrap(rule.rule.evaluate))) for rule in rules]
    chimneys = [(stack, each.factory) for each in demo_fleet() for stack in each.stacks if stack.fault is None]
    found: list[Found] = []
    for case in CASES:
        many = options.healthy if case.name == "nothing" else options.chimneys
        for stack, factory in chimneys[:many]:
            found.append(watch(case, stack, factory, bare, month_start(), options.days, options.step))
        print(f"{case.name}: {time.perf_counter() - began:.0f} s", flush=True)
    print(table(found))
    for each in found:
        for firing in each.false_alarms:
            print(
                f"  false: {each.case.name}: {firing.raised_at:%d %H:%M}-{firing.cleared_at} {firing.finding.message}"
            )
    print(Counter(firing.site.device.device_id for each in found for firing in each.false_alarms).most_common(5))
    (corroboration,) = [rule for rule in factory_rules if rule.rule.name == "corroboration"]
    first = demo_fleet(1)[0]
    print("\n| What drifts | Measured / fuel after the month | Found by corroboration-off |\n| --- | ---: | --- |")
    for scenario in SCENARIOS:
        if scenario.name.startswith(DRIFTS):
            one = score(scenario, first.stacks[-1], first.factory, month_start(), options.days, options.step)
            print(_drift_row(corroboration, one, first.factory))
    print(f"\n{options.days} days, a reading every {options.step} s, {time.perf_counter() - began:.0f} s")


def _drift_row(rule: RuleInstance[FactoryRule], one: Score, factory: object) -> str:
    facts = FactoryFacts(factory, month_start(), month_start().tzinfo, None, None, None, date(2026, 3, 1), one.ratio)  # type: ignore[arg-type]
    rings = rule.rule.evaluate(rule.options, facts).breached
    return f"| {one.scenario.name} | {one.ratio:.2f} | {'yes' if rings else 'no: within its band'} |"
