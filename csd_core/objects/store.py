"""Objects below one address of an object store: S3, Google Cloud Storage or Azure, by the same code.

The store is set up in the environment, by the variables that LanceDB reads too (AWS_*, GOOGLE_*, AZURE_*). An object is
replaced only if it is still what was read (If-Match), or made only if there is none (If-None-Match), so that of two
writers one is refused. A write whose answer was lost may have been done: it counts as done if the object is what was
to be written, so no two writers may ever want to write the same bytes.
"""

import os
import re
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from csd_core.system.atomic import atomic_file
from csd_core.system.errors import ArtifactError, CsdError, ParamsError, StorageError, message_of

if TYPE_CHECKING:
    from functools import partial

    from obstore.store import ClientConfig, ObjectStore

SCHEMES = ("s3://", "gs://", "az://")
AT_ONCE = 8
"""Objects that are sent or fetched at the same time."""
QUICK, LONG = timedelta(seconds=5), timedelta(minutes=10)
"""How long one request may take for a small object, and for one of any size."""
PATIENCE = timedelta(seconds=10)
"""How long a request that the store refuses with 429 or 5xx is repeated."""
TRIES = 4
"""How often a conditional write is sent whose outcome is not known."""
_VARIABLES = {
    "s3://": "AWS_ENDPOINT_URL, AWS_ALLOW_HTTP, AWS_REGION and the keys",
    "gs://": "GOOGLE_SERVICE_ACCOUNT and the like",
    "az://": "AZURE_STORAGE_ACCOUNT_NAME and the key",
}
_ANSWER = re.compile(r"<Code>(.*?)</Code>\s*<Message>(.*?)</Message>", re.DOTALL)
_STATUS = re.compile(r"status code: (\d{3} [A-Za-z ]+)")
_CAUSES = (
    ("BadScheme", "the address begins with http:, without TLS; set AWS_ALLOW_HTTP=true"),
    ("TimedOut", "it has not answered in time"),
    ("Connect", "it cannot be reached"),
)


class ConflictError(CsdError):
    """An object is another than was read: somebody else wrote it."""


class Found(NamedTuple):
    """An object as it was read."""

    body: bytes
    tag: str
    """ETag: another one whenever the body is."""


class Objects:
    """The objects below one address.

    Attributes:
        uri: The address, without a slash at its end.
    """

    def __init__(self, uri: str) -> None:
        """Connect; nothing is read or written yet.

        Raises:
            ParamsError: if nothing opens such addresses.
        """
        self.uri = uri.rstrip("/")
        self._quick, self._long = _opened(self.uri, QUICK), _opened(self.uri, LONG)

    def get(self, key: str) -> Found | None:
        """Return a small object; None if there is none.

        Raises:
            StorageError: if the store does not answer.
        """
        with self._errors(key):
            try:
                found = self._quick.get(key)
                return Found(bytes(found.bytes()), str(found.meta["e_tag"]))
            except FileNotFoundError as error:
                self._refuse_no_bucket(error)
                return None

    def newer(self, key: str, known: Found) -> Found | None:
        """Return a small object; what is known of it if it did not change, None if there is none.

        Raises:
            StorageError: if the store does not answer.
        """
        from obstore.exceptions import NotModifiedError  # noqa: PLC0415 - without the extra `store` there is none

        with self._errors(key):
            try:
                found = self._quick.get(key, options={"if_none_match": known.tag})
                return Found(bytes(found.bytes()), str(found.meta["e_tag"]))
            except NotModifiedError:
                return known
            except FileNotFoundError as error:
                self._refuse_no_bucket(error)
                return None

    def swap(self, key: str, body: bytes, *, known: Found | None) -> Found:
        """Replace a small object if it is still the one that was read.

        Args:
            key: Of the object.
            body: What it becomes; nobody else may ever write the same bytes there.
            known: As it was read; None if there was none.

        Raises:
            ConflictError: if it is another by now.
            StorageError: if the store does not answer: it may be written or not.
        """
        from obstore.exceptions import AlreadyExistsError, PreconditionError  # noqa: PLC0415 - as above

        for turn in range(TRIES):
            try:
                with self._errors(key):
                    done = self._quick.put(
                        key, body, mode="create" if known is None else {"e_tag": known.tag}, use_multipart=False
                    )
                return Found(body, str(done["e_tag"]))
            except StorageError as error:
                refused = isinstance(error.__cause__, AlreadyExistsError | PreconditionError)
                now = self.get(key)
                if now is not None and now.body == body:
                    return now
                if refused or now != known:
                    raise ConflictError(f"{self.uri}/{key}: somebody else has just written it") from None
                if turn == TRIES - 1:
                    raise
                time.sleep(0.2 * 2**turn)
        raise AssertionError

    def put(self, key: str, body: bytes | Path) -> None:
        """Write an object of any size that is the same whoever writes it.

        Raises:
            StorageError: if the store does not answer.
        """
        with self._errors(key):
            self._long.put(key, body)

    def fetch(self, key: str, target: Path) -> None:
        """Copy an object of any size to a file, whole or not at all.

        Raises:
            ArtifactError: if there is none.
            StorageError: if the store does not answer.
        """
        with self._errors(key), atomic_file(target) as partial_file:
            try:
                with partial_file.open("wb") as file:
                    for chunk in self._long.get(key).stream():
                        file.write(chunk)
            except FileNotFoundError as error:
                self._refuse_no_bucket(error)
                raise ArtifactError(f"{self.uri}/{key}: there is no such object; restore it from a backup") from None

    def listed(self, below: str = "") -> tuple[str, ...]:
        """Return the keys below a folder, ascending.

        Raises:
            StorageError: if the store does not answer.
        """
        with self._errors(below):
            return tuple(sorted(each["path"] for page in self._long.list(below or None) for each in page))

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects, as far as they are there.

        Raises:
            StorageError: if the store does not answer.
        """
        wanted = list(keys)
        if wanted:
            with self._errors(wanted[0]):
                self._long.delete(wanted)

    @contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        """Raise the store's errors as ours, with the address, the key and the cause."""
        from obstore.exceptions import BaseError  # noqa: PLC0415 - as above

        try:
            yield
        except CsdError:
            raise
        except (BaseError, FileNotFoundError) as error:
            remedy = f"check live.releases and {_VARIABLES[_scheme(self.uri)]}"
            raise StorageError(f"{self.uri}/{key}: the store: {_cause(error)}; {remedy}") from error

    def _refuse_no_bucket(self, error: FileNotFoundError) -> None:
        """Raise an error that is about the whole bucket; an object that is missing is none."""
        if "NoSuchBucket" in str(error) or "ContainerNotFound" in str(error):
            raise error


@cache
def objects_at(uri: str) -> Objects:
    """Return the objects below an address, with one connection for the whole process."""
    return Objects(uri)


def in_parallel(calls: "Iterable[partial[None]]") -> None:
    """Call all, AT_ONCE at the same time; the first error is raised when those under way have ended."""
    with ThreadPoolExecutor(AT_ONCE, "csd-objects") as executor:
        waiting = [executor.submit(call) for call in calls]
        try:
            for each in waiting:
                each.result()
        except BaseException:
            executor.shutdown(wait=True, cancel_futures=True)
            raise


def _opened(uri: str, within: timedelta) -> "ObjectStore":
    try:
        from obstore.exceptions import BaseError  # noqa: PLC0415 - as above
        from obstore.store import from_url  # noqa: PLC0415
    except ImportError:
        raise ParamsError(
            f"params.yaml: live.releases: {uri}: obstore is not installed; pip install 'csd[store]'"
        ) from None
    _scheme(uri)
    options: ClientConfig = {"timeout": within, "connect_timeout": QUICK}
    if os.environ.get("AWS_ALLOW_HTTP", "").lower() in {"1", "true", "yes", "on"}:
        options["allow_http"] = True
    try:
        return from_url(uri, client_options=options, retry_config={"max_retries": 6, "retry_timeout": PATIENCE})
    except BaseError as error:
        raise ParamsError(
            f"params.yaml: live.releases: {uri}: cannot be opened: {_cause(error)}; write s3://bucket/prefix, and "
            f"check {_VARIABLES[_scheme(uri)]}"
        ) from None


def _scheme(uri: str) -> str:
    scheme = uri[: uri.find("://") + 3]
    if scheme not in SCHEMES:
        raise ParamsError(
            f"params.yaml: live.releases: {uri}: no object store is reached so; write `releases` for the folder beside "
            f"params.yaml, or an address that begins with {', '.join(SCHEMES)}"
        )
    return scheme


def _cause(error: BaseException) -> str:
    """Return what the store said, without the library's account of its own classes."""
    text = str(error)
    said = [*_STATUS.findall(text)[:1], *(f"{code}: {' '.join(told.split())}" for code, told in _ANSWER.findall(text))]
    if said:
        return ": ".join(dict.fromkeys(said[:2]))
    return next((told for word, told in _CAUSES if word in text), message_of(error).split(" Debug source:")[0])
