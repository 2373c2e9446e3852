"""The fixtures that Carbon Track has for plugins."""

pytest_plugins = ["carbontrack.testing.fixtures"]
