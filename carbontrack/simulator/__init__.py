"""Simulated nodes that speak the real device protocol to a real broker, for demonstrations and load tests."""

from carbontrack.simulator.boiler import Boiler
from carbontrack.simulator.demo_fleet import DemoFactory, DemoStack, demo_fleet
from carbontrack.simulator.node import Node
from carbontrack.simulator.runner import run_fleet

__all__ = ["Boiler", "DemoFactory", "DemoStack", "Node", "demo_fleet", "run_fleet"]
