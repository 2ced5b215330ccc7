"""Prefect flows: when the pipeline runs, who approves, what is published and undone.

dvc.yaml stays the only description of the stages; a flow runs `dvc repro` on one after the other.
"""
