"""Methods x profiles x seeds, each run through the project's own pipeline by DVC, and their results in one table."""
