"""The index of a large gallery: its rows in files that serving processes map, and faiss's cells over their vectors.

It is made when a release is, and lies in the release's folder. What was written or deleted since is told from LanceDB's
row addresses, and searched beside it.
"""
