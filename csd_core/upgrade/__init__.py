"""Release: what an upgrade would do to search, and the verdict on it."""
