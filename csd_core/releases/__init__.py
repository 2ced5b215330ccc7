"""Releases: a model and the gallery it searches, activated and rolled back as one.

The audit log and verification belong here.
"""
