"""A flue gas probe and a summary by shifts, for Carbon Track."""
