"""Continual-learning methods: what a later stage adds to the base loss, one module each."""
