"""How wrong the figures are, and what is noticed: the pipeline against the simulator's truth, for each fault.

``python -m benchmarks score --days 30 --step 30`` takes some minutes and prints the table of docs/performance.md.
"""

from __future__ import annotations

import argparse
import time

from carbontrack.simulator import demo_fleet
from carbontrack.simulator.score import SCENARIOS, month_start, score, table


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks score", description=__doc__)
    parser.add_argument("--days", type=float, default=30)
    parser.add_argument("--step", type=int, default=30, help="seconds from one sample to the next")
    options = parser.parse_args(arguments)
    began = time.perf_counter()
    first = demo_fleet(1)[0]
    scores = [
        score(scenario, first.stacks[-1], first.factory, month_start(), options.days, options.step)
        for scenario in SCENARIOS
    ]
    print(table(scores))
    print(f"\n{options.days:g} days, a sample every {options.step} s, {time.perf_counter() - began:.0f} s")
