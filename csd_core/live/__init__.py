"""The live gallery: the rows that production searches, in LanceDB.

People write, delete and search here; which release is active is decided in `releases`.
"""

from csd_core.live.storage.rest_client import defer_rest_client

defer_rest_client()  # before a module of this package imports LanceDB
