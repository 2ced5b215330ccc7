"""The local server behind `csd ui`: Prefect, a worker and the home page with reports.

It starts and ends processes, and nothing outlives it.
"""
