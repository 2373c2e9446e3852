"""Measurements of what the documentation claims, as ratios within one run. Never part of the tests."""
