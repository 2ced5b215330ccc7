"""What stages write for each other as JSON, as frozen models.

Files with arrays belong to the package that makes them.
"""
