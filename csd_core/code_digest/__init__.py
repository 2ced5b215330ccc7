"""Digests of what each stage's code computes, so that a comment re-runs nothing.

What a parameter chooses is named in `params.choices`.
"""
