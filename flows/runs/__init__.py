"""What a flow run does: a checkout of its own, the pipeline's stages, and the outcome. Prefect's tasks call these."""
