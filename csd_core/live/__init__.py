"""The live gallery: the rows that production searches, in LanceDB.

People write, delete and search here; which release is active is decided in `releases`.
"""
