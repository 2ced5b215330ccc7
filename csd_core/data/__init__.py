"""Data: published sets and folders become canonical sets, and these become shards, one per task. No torch here."""
