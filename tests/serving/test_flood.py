"""Many clients that send images near the limits: memory stays below its budget, and small requests are answered."""

import io
import sys
import threading
from collections import Counter
from itertools import count
from pathlib import Path
from statistics import median

import httpx
import psutil
import pytest
from patience import PATIENCE
from PIL import Image
from services import png, published, search, serving

sys.path.append(str(Path(__file__).parents[1] / "data"))

import bombs

BUDGET = 1 << 30
"""Bytes of all images that are being decoded, as docs/serving.md says."""
CLIENTS = 24


def saved(image, kind):
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


FLOODS = {
    "PNG of 20 megapixels": lambda: bombs.png(4500, 4400, 8, 2),
    "PNG of 39 megapixels, 16 bits, RGBA": lambda: bombs.png(6240, 6250, 16, 6),
    "WebP of 9 megapixels": lambda: saved(Image.new("RGB", (3000, 3000), "teal"), "WEBP"),
}


def held(process):
    """Bytes of a process and all below it."""
    total = 0
    for each in (process, *process.children(recursive=True)):
        try:
            total += each.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


class Flood:
    """Clients that send a file again and again."""

    def __init__(self, url, file):
        self._url, self._file = url, file
        self.over = threading.Event()
        self.answers, self._numbers = [], count()
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(CLIENTS)]

    def _ask(self):
        with httpx.Client(timeout=PATIENCE) as client:
            while not self.over.is_set():
                file = self._file + next(self._numbers).to_bytes(4)  # or it would be remembered
                self.answers.append(client.post(f"{self._url}/v1/search", content=file))

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        for thread in self._threads:
            thread.join(PATIENCE)


@pytest.mark.slow
@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_of_large_images_keeps_the_budget_and_holds_up_no_small_one(tmp_path, name):
    project = published(tmp_path / "project", "none")
    with serving(project) as running:
        for number in range(20):
            assert search(running.url, png(0, seed=number)).status_code == 200
        process = psutil.Process(running.process.pid)
        before = most = held(process)
        overtaken, answers = [], []
        with Flood(running.url, FLOODS[name]()) as flood:
            while len(flood.answers) < 2 * CLIENTS:
                seen = len(flood.answers)
                answers.append(search(running.url, png(0, seed=100 + len(answers))))
                overtaken.append(len(flood.answers) - seen)
                most = max(most, held(process))
        statuses = Counter(answer.status_code for answer in flood.answers)
        assert {answer.status_code for answer in answers} == {200}
        assert median(overtaken) < CLIENTS / 4  # it does not wait for all that came before
        assert statuses.keys() <= {200, 429}, statuses
        assert all(answer.headers["Retry-After"] for answer in flood.answers if answer.status_code == 429)
        assert most - before < BUDGET
        assert running.ready().status_code == 200
