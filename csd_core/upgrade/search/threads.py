"""Work that is cut into pieces, so that any number of threads gives the same."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from threadpoolctl import threadpool_info, threadpool_limits


@contextmanager
def threads() -> Iterator[ThreadPoolExecutor]:
    """Lend as many threads as BLAS may use, each of which computes its matrix products alone."""
    count = max((library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"), default=1)
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(count) as pool:
        yield pool
