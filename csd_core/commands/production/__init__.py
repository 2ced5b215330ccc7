"""Commands on what production serves: releases, items, the service and its keys.

Each calls one function of the core.
"""
