"""Reporting: what became of every task, as metrics.json, plots, an HTML page and a terminal summary."""
