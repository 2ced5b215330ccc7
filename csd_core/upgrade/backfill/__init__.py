"""Re-embedding of stored rows, shard by shard. The order of rows and the workers that share them belong here."""
