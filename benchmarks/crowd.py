"""What a service answers when more clients ask at once than it can serve, against what a few get.

python benchmarks/crowd.py PROJECT [--crowds 32 600] [--seconds 10] [--workers 1]

PROJECT is a folder in which something was published (`make run && csd publish`). Every client asks again as soon as it
is answered, whatever the answer says: the worst of clients. They share the service's processors.
"""

import argparse
import asyncio
import resource
import time
from collections import Counter
from pathlib import Path

import numpy as np
from service import published, query_images, serving


class Crowd:
    """Clients that ask until a time, and what they were answered.

    Attributes:
        statuses: How often each status came.
        waited: Seconds of each answer that was 200.
        health: Seconds of each answer of /healthz, asked beside the crowd.
    """

    def __init__(self, port: int, requests: list[bytes], *, until: float) -> None:
        self._port, self._requests, self._until = port, requests, until
        self._turn = 0
        self.statuses: Counter[str] = Counter()
        self.waited: list[float] = []
        self.health: list[float] = []

    async def run(self, clients: int) -> None:
        """Ask with so many connections."""
        await asyncio.gather(*(self._client() for _ in range(clients)), self._watch())

    async def _client(self) -> None:
        while time.perf_counter() < self._until:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
                while time.perf_counter() < self._until:
                    self._turn += 1
                    started = time.perf_counter()
                    status = await _ask(reader, writer, self._requests[self._turn % len(self._requests)])
                    self.statuses[status] += 1
                    if status == "200":
                        self.waited.append(time.perf_counter() - started)
                writer.close()
            except (OSError, asyncio.IncompleteReadError):
                self.statuses["closed"] += 1
                await asyncio.sleep(0.1)

    async def _watch(self) -> None:
        request = f"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\nConnection: close\r\n\r\n".encode()
        while time.perf_counter() < self._until:
            started = time.perf_counter()
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
                await _ask(reader, writer, request)
                writer.close()
            except (OSError, asyncio.IncompleteReadError):
                self.statuses["no /healthz"] += 1
            self.health.append(time.perf_counter() - started)
            await asyncio.sleep(0.2)


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> str:
    """The status of the answer."""
    writer.write(request)
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))
    return head.split()[1].decode()


def main() -> None:
    """Print a line for each crowd."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("project", type=Path)
    parser.add_argument("--crowds", type=int, nargs="+", default=[32, 600])
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--get", action="store_true", help="ask for items instead of searching by images")
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    files = query_images(published(options.project))
    for clients in options.crowds:
        with serving(options.project, options.workers) as (url, _, _):
            port = int(url.rpartition(":")[2])
            host = f"Host: 127.0.0.1:{port}\r\n"
            requests = [f"GET /v1/items?limit=24 HTTP/1.1\r\n{host}\r\n".encode()]
            if not options.get:
                head = f"POST /v1/search?k=10 HTTP/1.1\r\n{host}Content-Type: image/png\r\nContent-Length: "
                requests = [f"{head}{len(file)}\r\n\r\n".encode() + file for file in files]
            crowd = Crowd(port, requests, until=time.perf_counter() + options.seconds)
            asyncio.run(crowd.run(clients))
        rates = ", ".join(f"{status}: {count / options.seconds:,.1f}/s" for status, count in crowd.statuses.items())
        p50, p99 = np.quantile(np.array(crowd.waited or [np.nan]) * 1000, [0.5, 0.99])
        print(
            f"{clients} clients: {rates}; 200 p50 {p50:.0f} ms, p99 {p99:.0f} ms; "
            f"/healthz at most {max(crowd.health) * 1000:.0f} ms",
            flush=True,
        )


if __name__ == "__main__":
    main()
