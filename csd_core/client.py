"""A client of the service: waits and asks again where the service says so.

Every request may be repeated safely: searches change nothing, and a write or deletion of an id twice is one.
"""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import quote

import httpx
import numpy as np
import numpy.typing as npt

from csd_core.client_answers import Embedded, Neighbour, Put, SearchResult, parsed
from csd_core.client_images import Image, as_base64
from csd_core.system.errors import CsdError, ParamsError
from csd_core.system.names import file_name

__all__ = ["Client", "Embedded", "Image", "Neighbour", "Put", "SearchResult", "ServiceError", "Which"]

Which = Literal["active", "before"]

BASE_SECONDS = 0.1
LONGEST_SECONDS = 10.0
"""Between two attempts, whatever the service asks for."""
_AGAIN = frozenset({429, 503})


class ServiceError(CsdError):
    """The service refused a request, or could not be reached.

    Attributes:
        status: Of HTTP; 0 if there was no answer.
        slug: The kind of problem, the end of its type.
    """

    def __init__(self, message: str, *, status: int, slug: str) -> None:
        super().__init__(message)
        self.status, self.slug = status, slug


class Client:
    """Asks a service. Use it as a context manager, or close it.

    Args:
        url: Of the service, such as http://127.0.0.1:8000.
        key: Where the service asks for one.
        timeout: Seconds that an answer may take.
        attempts: How often a request is sent at most.
        transport: Of httpx; by default the network.
        sleep: Waits some seconds.
        jitter: A number in [0, 1), drawn for every wait, so that clients do not come again all at once.

    Raises:
        ParamsError: if `url` is no address.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        timeout: float = 30.0,
        attempts: int = 6,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], object] = time.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        try:
            self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout, transport=transport)
        except httpx.InvalidURL as error:
            raise ParamsError(f"{url}: is no address ({error}); one is http://127.0.0.1:8000") from None
        if self._http.base_url.scheme not in ("http", "https") or not self._http.base_url.host:
            raise ParamsError(f"{url}: is no address; one is http://127.0.0.1:8000")
        self._url, self._attempts, self._sleep, self._jitter = url, attempts, sleep, jitter

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def embed(self, images: Sequence[Image]) -> Embedded:
        """Return vectors of images.

        Args:
            images: Files, as paths or as their bytes, or arrays.

        Raises:
            DataError: if a file cannot be read, or an array is no image.
            ServiceError: if the service refuses, or does not answer in time.
        """
        found = self._json("POST", "/v1/embed", json={"images": [as_base64(image) for image in images]})
        others = {model: np.array(vectors, np.float32) for model, vectors in found.get("others", {}).items()}
        return Embedded(np.array(found["vectors"], np.float32), found["model"], found["release"], others)

    def search(
        self,
        image: Image | None = None,
        *,
        vector: npt.NDArray[np.float32] | None = None,
        model: str | None = None,
        vectors: Mapping[str, npt.NDArray[np.float32]] | None = None,
        item: str | None = None,
        k: int = 10,
        label: Sequence[str] | None = None,
        task: Sequence[str] | None = None,
        origin: Sequence[Literal["pipeline", "live"]] | None = None,
        embedded_by: Sequence[str] | None = None,
        since: datetime | None = None,
        release: Which = "active",
    ) -> SearchResult:
        """Neighbours of an image, of its vectors, or of an item of the gallery.

        Args:
            image: A file, as a path or as its bytes, or an array.
            vector: (D,) of unit length, of `embed`; for a release with one query model.
            model: Digest of the model that made the vector.
            vectors: Query model -> (D,) of one image, for a release with any number of them: `embed(...).query(0)`.
            item: Id of an item of the gallery.
            k: How many at most.
            label: Only of these classes.
            task: Only of these tasks.
            origin: Only what was published, or what people wrote.
            embedded_by: Only what these models embedded.
            since: Only what was written then or later.
            release: The one active, or the one before it.

        Raises:
            DataError: if the file cannot be read, or the array is no image.
            ServiceError: if the service refuses, or does not answer in time.
        """
        given: dict[str, Any] = {
            "label": label,
            "task": task,
            "origin": origin,
            "embedded_by": embedded_by,
            "since": since.isoformat() if since else None,
        }
        filters = {name: value if isinstance(value, str) else list(value) for name, value in given.items() if value}
        query: dict[str, Any] = {
            "image": None if image is None else as_base64(image),
            "vector": None if vector is None else vector.tolist(),
            "model": model,
            "vectors": None if vectors is None else [each.tolist() for each in vectors.values()],
            "models": None if vectors is None else list(vectors),
            "item": item,
        }
        body = {name: value for name, value in query.items() if value is not None}
        found = self._json("POST", "/v1/search", json=body | {"k": k, "filters": filters, "release": release})
        hits = tuple(parsed(Neighbour, hit) for hit in found["hits"])
        return parsed(SearchResult, found | {"hits": hits})

    def put(self, item: str, image: Image, *, label: str, name: str | None = None) -> Put:
        """Write an item, or replace the one of this id.

        Args:
            item: Its id.
            image: A file, as a path or as its bytes, or an array.
            label: Its class.
            name: What people know it by; by default the file's name without its folders, where a path is given.

        Raises:
            DataError: if the file cannot be read, or the array is no image.
            ServiceError: if the service refuses, or does not answer in time.
        """
        if name is None and isinstance(image, str | Path):
            name = file_name(Path(image))
        body = {"label": label, "image": as_base64(image)} | ({} if name is None else {"name": name})
        return parsed(Put, self._json("PUT", _path("items", item), json=body))

    def delete(self, item: str) -> None:
        """Delete an item.

        Raises:
            ServiceError: if there is none (status 404), the service refuses, or does not answer in time.
        """
        self._ask("DELETE", _path("items", item))

    def item(self, item: str) -> Mapping[str, Any]:
        """Return what is parsed of an item.

        Raises:
            ServiceError: if there is none (status 404), the service refuses, or does not answer in time.
        """
        facts: Mapping[str, Any] = self._json("GET", _path("items", item))
        return facts

    def image(self, item: str) -> bytes:
        """Return the image of an item as PNG.

        Raises:
            ServiceError: if there is none (status 404), the service refuses, or does not answer in time.
        """
        return self._ask("GET", _path("images", item)).content

    def thumbnail(self, item: str) -> bytes:
        """Return a small picture of an item's original as JPEG, or its image as PNG where the original is not known.

        Raises:
            ServiceError: if there is none (status 404), the service refuses, or does not answer in time.
        """
        return self._ask("GET", _path("thumbnails", item)).content

    def releases(self) -> Mapping[str, Any]:
        """Return the releases, newest first, and which is served.

        Raises:
            ServiceError: if the service refuses, or does not answer in time.
        """
        found: Mapping[str, Any] = self._json("GET", "/v1/releases")
        return found

    def ready(self) -> Mapping[str, Any]:
        """Return which release is served, and whether one was refused.

        Raises:
            ServiceError: if none is served, or the service does not answer in time.
        """
        state: Mapping[str, Any] = self._json("GET", "/readyz")
        return state

    def _json(self, method: str, path: str, **kwargs: Any) -> Any:
        answer = self._ask(method, path, **kwargs)
        try:
            return answer.json()
        except ValueError:
            raise ServiceError(
                f"{self._url}: what answers there is no csd service; name the address of `csd serve`",
                status=answer.status_code,
                slug="no-service",
            ) from None

    def _ask(self, method: str, path: str, **kwargs: Any) -> httpx.Response:
        """Send a request until it is answered with something else than "come again"."""
        for attempt in range(1, self._attempts + 1):
            last = attempt == self._attempts
            try:
                answer = self._http.request(method, path, **kwargs)
            except httpx.TransportError as error:
                if last:
                    raise ServiceError(
                        f"{self._url}: no answer ({type(error).__name__}: {error}); is `csd serve` running there?",
                        status=0,
                        slug="no-answer",
                    ) from None
                self._wait(attempt, 0.0)
                continue
            if answer.status_code in _AGAIN and not last:
                self._wait(attempt, _seconds(answer.headers.get("Retry-After", "")))
                continue
            if answer.is_success:
                return answer
            raise _refusal(answer)
        raise AssertionError  # the last attempt returned or raised

    def _wait(self, attempt: int, asked: float) -> None:
        """At least as long as the service asked for, and longer after every attempt, drawn at random."""
        drawn = self._jitter() * BASE_SECONDS * 2**attempt
        self._sleep(min(asked + drawn, LONGEST_SECONDS))


def _path(kind: str, item: str) -> str:
    """Of an item; a dot is encoded too, for `..` would mean the folder above."""
    return f"/v1/{kind}/{quote(item, safe='').replace('.', '%2E')}"


def _seconds(text: str) -> float:
    return float(text) if text.isdecimal() else 0.0


def _refusal(answer: httpx.Response) -> ServiceError:
    try:
        problem = answer.json()
        message, slug = f"{problem['title']}: {problem['detail']}", problem["type"].rpartition(":")[2]
    except (ValueError, KeyError, TypeError):  # a proxy's page
        message, slug = f"{answer.status_code} {answer.reason_phrase}", "http"
    return ServiceError(message, status=answer.status_code, slug=slug)
