"""Embedding networks, their classifiers and initial weights.

Where and in which numbers they compute belongs here too.
"""
