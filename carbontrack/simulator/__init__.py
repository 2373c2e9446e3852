"""Simulated nodes that speak the real device protocol to a real broker, for demonstrations and load tests."""
