"""Backfill of the active release: which rows other models made, and the release that serves them re-embedded.

The shards themselves are worked on in `upgrade.backfill`.
"""
