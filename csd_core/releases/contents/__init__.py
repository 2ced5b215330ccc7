"""What a release's folder holds: its record, models, golden queries and checksums.

Which release is active is decided above.
"""
