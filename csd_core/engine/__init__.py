"""Where pieces of work are done: in processes of this machine, or on the machines of a Ray cluster.

Work knows neither engine; each engine promises the same results, progress, throttle and errors.
"""
