"""The backbone of the first stage forever; later stages train the classifier alone."""

from csd_core.learning.methods.protocol import Method


class Frozen(Method):
    """The backbone stays as it is, its batch-norm statistics too."""

    backbone = "frozen"
