"""How long tests wait for what happens soon."""

PATIENCE = 300.0
"""Seconds that are enough on a machine with much other work; only a test that fails waits for so long."""
