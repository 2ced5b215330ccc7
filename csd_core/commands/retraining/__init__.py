"""Commands on scheduled retraining: batches that wait, and what became of each run.

Each calls one function of the core.
"""
