"""Commands on models, vectors and stores that a team already has.

Each calls one function of the core.
"""
