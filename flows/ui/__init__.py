"""The local server behind `csd ui`: Prefect, a worker and the pages of reports.

It starts and ends processes, and nothing outlives it.
"""
