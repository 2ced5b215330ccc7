"""Whatever a file claims, decoding it costs little memory and little time, and the process that asked survives it."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from unittest.mock import Mock

import bombs
import numpy as np
import pytest
from PIL import Image

from csd_core.data import decode as decoding
from csd_core.data import decoder_processes
from csd_core.data.decode import decode, resize
from csd_core.data.decoder_processes import Limits, Room, _Child, decoders
from csd_core.records.stages import ImageForm
from csd_core.system.errors import DataError, DecoderStartError

FORM = ImageForm(size=8, channels=3, resize="squash")
BUDGET = 512 << 20
SCRIPT = """
import json, resource, sys, warnings
from pathlib import Path
from PIL import Image
from csd_core.data.decode import decode
from csd_core.system.errors import DataError
from csd_core.records.stages import ImageForm

def peak(who):
    return resource.getrusage(who).ru_maxrss << 10

warnings.simplefilter("ignore")
Image.MAX_IMAGE_PIXELS = 40_000_000
before = peak(resource.RUSAGE_SELF)
outcomes = []
for path in sys.argv[1:]:
    try:
        outcomes.append(decode(Path(path).read_bytes(), ImageForm(size=8, channels=3, resize="squash")).shape)
    except DataError as error:
        outcomes.append(str(error))
try:
    from csd_core.data.decoder_processes import decoders
    decoders.close()
except ImportError:
    pass
print(json.dumps([outcomes, peak(resource.RUSAGE_SELF) - before, peak(resource.RUSAGE_CHILDREN)]))
"""


def thrown(names, folder):
    """Outcomes of bombs; the bytes that a process took for them, and the most that one of its children had."""
    paths = [folder / str(number) for number in range(len(names))]
    for name, path in zip(names, paths, strict=True):
        path.write_bytes(({**bombs.MEMORY, **bombs.TIME}[name])())
    done = subprocess.run([sys.executable, "-c", SCRIPT, *map(str, paths)], capture_output=True, check=True)
    outcomes, here, children = json.loads(done.stdout)
    return dict(zip(names, outcomes, strict=True)), here, children


QUICK = [
    "TIFF, a tile of 32768 x 60800",
    "JPEG 2000 that claims",
    "WebP, canvas",
    "PNG, text of 100 MB",
    "PPM that claims",
    "JPEG, segments",
    "PNG, empty data",
]


def test_small_files_that_ask_for_much_memory_do_not_get_it(tmp_path):
    outcomes, here, children = thrown(QUICK, tmp_path)
    assert here + children < BUDGET, outcomes
    assert "tiles of 32768 x 60800" in outcomes["TIFF, a tile of 32768 x 60800"]
    assert outcomes["PNG, text of 100 MB"] == [8, 8, 3]


@pytest.mark.slow
@pytest.mark.parametrize("name", bombs.MEMORY)
def test_no_bomb_takes_more_than_its_budget(name, tmp_path):
    outcomes, here, children = thrown([name], tmp_path)
    assert here + children < BUDGET, outcomes


@pytest.mark.parametrize("name", ["QOI of 16 MB", "JPEG, scans"])
def test_what_takes_too_long_is_given_up(name, monkeypatch):
    monkeypatch.setattr(decoding, "SMALL", Limits(decoding.SMALL.memory, 0.05))
    monkeypatch.setattr(decoding, "LARGE", Limits(decoding.LARGE.memory, 0.1))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40_000_000)
    with pytest.raises(DataError, match="takes more than 0.1 s to decode; save it again as PNG or JPEG"):
        decode(bombs.TIME[name](), FORM)


def pixels_of(size):
    return np.random.default_rng(5).integers(0, 256, (size, size, 3), np.uint8)


def test_what_little_memory_cannot_hold_is_decoded_with_more(monkeypatch):
    monkeypatch.setattr(decoding, "SMALL", Limits(1 << 20, 0.5))
    file = bombs.saved(Image.fromarray(pixels_of(1000)), "BMP")
    assert decoding.decode_small(file, FORM) is None
    np.testing.assert_array_equal(decode(file, FORM), resize(pixels_of(1000)[None], FORM)[0])


def test_what_needs_more_than_there_is_is_refused_with_the_remedy(monkeypatch):
    monkeypatch.setattr(decoding, "SMALL", Limits(1 << 20, 0.5))
    monkeypatch.setattr(decoding, "LARGE", Limits(1 << 20, 0.5))
    with pytest.raises(DataError, match="needs more than 1 MB to decode; make it smaller, or save it as JPEG"):
        decode(bombs.saved(Image.fromarray(pixels_of(1000)), "BMP"), FORM)


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "BMP", "TIFF", "WEBP"])
def test_pixels_do_not_depend_on_where_they_are_decoded(file_format, monkeypatch, tmp_path):
    file = bombs.saved(Image.fromarray(pixels_of(50)), file_format)
    path = tmp_path / "image"
    path.write_bytes(file)
    found = decode(file, FORM)
    for each in (file, path):
        np.testing.assert_array_equal(decoding.decode_large(each, FORM), found)
    monkeypatch.setattr(decoding, "HERE", 0)
    np.testing.assert_array_equal(decode(file, FORM), found)


def test_large_images_are_converted_piece_by_piece_to_the_same_pixels(monkeypatch):
    image = Image.fromarray(np.random.default_rng(6).integers(0, 256, (40, 30, 4), np.uint8))
    deep = Image.fromarray(np.random.default_rng(6).integers(0, 65536, (40, 30), np.uint16))
    real = Image.fromarray(np.random.default_rng(6).random((40, 30)).astype(np.float32))
    files = [
        bombs.saved(image, "PNG"),
        bombs.saved(deep, "PNG"),
        bombs.saved(image.convert("P"), "PNG", transparency=0),
    ]
    files.append(bombs.saved(image.convert("CMYK"), "JPEG"))
    whole = [decode(file, FORM) for file in files]
    monkeypatch.setattr("csd_core.data.pixels._BAND", 70)
    for file, expected in zip(files, whole, strict=True):
        np.testing.assert_array_equal(decode(file, FORM), expected)
    assert decode(bombs.saved(real, "TIFF"), FORM).max() > 1


def running():
    """The processes that decode and are idle."""
    return [child._process for child in decoders._idle]


def test_a_decoder_that_is_killed_is_replaced():
    file = bombs.saved(Image.fromarray(pixels_of(9)), "BMP")
    found = decode(file, FORM)
    decoders._idle.extend(_Child() for _ in range(4))
    for process in running():
        process.kill()
        process.wait()
    np.testing.assert_array_equal(decode(file, FORM), found)
    assert len(running()) == 1


def test_a_decoder_that_cannot_be_started_is_not_blamed_on_the_file(monkeypatch):
    decoders.close()
    full = OSError(errno.EAGAIN, "Resource temporarily unavailable")
    monkeypatch.setattr(subprocess, "Popen", Mock(side_effect=full))
    with pytest.raises(DecoderStartError, match="no process for decoding images starts: .*Resource temporarily"):
        decode(bombs.saved(Image.fromarray(pixels_of(9)), "BMP"), FORM)


@pytest.mark.parametrize(
    ("start", "reason"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("import resource; resource.setrlimit(resource.RLIMIT_AS, (1 << 26,) * 2); import numpy", "rror"),
        ("import os; os._exit(7)", "ended with code 7"),
        ("import os; os.kill(os.getpid(), 9)", r"ended by SIGKILL \(out of memory\?\)"),
    ],
)
def test_a_decoder_that_dies_as_it_starts_is_not_blamed_on_the_file(monkeypatch, start, reason):
    decoders.close()
    monkeypatch.setattr(decoder_processes, "_COMMAND", start)
    with pytest.raises(DecoderStartError, match=f"starts: .*{reason}.*; free memory and processes"):
        decode(bombs.saved(Image.fromarray(pixels_of(9)), "BMP"), FORM)


def test_a_decoder_that_never_gets_ready_is_given_up(monkeypatch):
    decoders.close()
    monkeypatch.setattr(decoder_processes, "_COMMAND", "import time; time.sleep(600)")
    monkeypatch.setattr(decoder_processes, "CLOCK", 0.5)
    with pytest.raises(DecoderStartError, match="starts: it is not ready after 0.5 s"):
        decode(bombs.saved(Image.fromarray(pixels_of(9)), "BMP"), FORM)


def test_a_decoder_that_does_not_answer_is_given_up(monkeypatch):
    decode(bombs.saved(Image.fromarray(pixels_of(9)), "BMP"), FORM)
    monkeypatch.setattr(decoder_processes, "CLOCK", 0.5)
    for process in running():
        os.kill(process.pid, signal.SIGSTOP)
    with pytest.raises(DataError, match="is not decoded after 0.5 s"):
        decoders.decode(bombs.saved(Image.fromarray(pixels_of(9)), "BMP"), [FORM], None, decoding.SMALL)
    decoders.close()


def test_a_file_that_kills_its_decoder_is_damaged(monkeypatch):
    decode(bombs.saved(Image.fromarray(pixels_of(9)), "BMP"), FORM)
    (process, *_) = running()[::-1]
    os.kill(process.pid, signal.SIGSEGV)
    process.wait()
    monkeypatch.setattr(_Child, "lives", lambda _: True)  # as if it died a moment later
    with pytest.raises(DataError, match="is damaged: its decoder did not survive it"):
        decoders.decode(bombs.saved(Image.fromarray(pixels_of(9)), "BMP"), [FORM], None, decoding.SMALL)


def test_several_threads_decode_at_once_and_share_the_room(monkeypatch):
    monkeypatch.setattr(decoding, "_room", Room(decoding.SMALL.memory))  # for one
    file = bombs.saved(Image.fromarray(pixels_of(30)), "BMP")
    found = []
    threads = [threading.Thread(target=lambda: found.append(decode(file, FORM))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert all((each == found[0]).all() for each in found)


def test_a_pipe_in_the_place_of_an_image_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "image.png")
    with pytest.raises(DataError, match="^is a pipe, a socket or a device$"):
        decode(tmp_path / "image.png", FORM)


def test_a_forked_process_has_decoders_of_its_own():
    file = bombs.saved(Image.fromarray(pixels_of(9)), "BMP")
    found = decode(file, FORM)
    script = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "import os, bombs\n"
        "from PIL import Image\n"
        "from csd_core.data.decode import decode\n"
        "from csd_core.records.stages import ImageForm\n"
        "form = ImageForm(size=8, channels=3, resize='squash')\n"
        "file = bombs.saved(Image.new('RGB', (9, 9), 'red'), 'BMP')\n"
        "decode(file, form)\n"
        "child = os.fork()\n"
        "assert decode(file, form)[0, 0].tolist() == [255, 0, 0]\n"
        "if not child: sys.exit(7)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True)
    assert done.returncode == 7, done.stderr
    np.testing.assert_array_equal(decode(file, FORM), found)
