"""LanceDB tables behind names that switch atomically: created whole or not at all, with one owner.

What their rows mean belongs to the package above.
"""
