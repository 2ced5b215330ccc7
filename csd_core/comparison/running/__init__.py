"""Runs of a comparison: each a DVC project of its own, side by side and resumable.

What they measured is read in `results`.
"""
