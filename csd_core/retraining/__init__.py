"""What scheduled retraining knows without a scheduler: the inbox, where a retraining starts, its record, its review.

`flows` calls it.
"""
