"""Training on all data so far, afresh: the upper bound, and the unconstrained model of the update gain."""

from csd_core.learning.methods.protocol import Method


class Joint(Method):
    """Every stage is a first stage, on the images of all tasks."""

    learns_from = "all"
    starts_from = "fresh"
