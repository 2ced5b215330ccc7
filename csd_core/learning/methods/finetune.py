"""Finetuning: the base loss on the new images and nothing against forgetting."""

from csd_core.learning.methods.protocol import Method


class Finetune(Method):
    """Adds nothing."""
