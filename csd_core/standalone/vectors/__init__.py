"""Vectors and labels that a team already has: read from files, found by id, and cached between commands."""
