"""What shows that production was not changed unnoticed: the chained log of events, and checksums of files.

Live gallery and releases both write to it.
"""
