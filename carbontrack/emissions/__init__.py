"""The physics and the accounting: pure functions without I/O, clock or framework."""
