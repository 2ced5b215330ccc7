"""What machines share: objects in a store that change by conditional writes, and leases that take the place of locks.

It knows nothing of what the objects mean.
"""
