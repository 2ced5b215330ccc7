"""Addresses of stores, and how they are opened.

    postgresql://user@host/database?table=items&id=id&vector=embedding
    qdrant://host:6333?collection=items&vector=image        (qdrants:// with TLS; QDRANT_API_KEY)
    qdrant+file:///folder?collection=items
    lancedb:///folder?table=items&id=id&vector=vector
    parquet:///folder/items.parquet?id=id&vector=vector
    faiss:///folder/items.index

`id` and `vector` may be left out where they are called so; a server's other options stay in its address.
"""

from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit, urlunsplit

from csd_core.stores.faiss_file import FaissFile
from csd_core.stores.lance import LanceTable
from csd_core.stores.parquet_file import ParquetFile
from csd_core.stores.postgres import PostgresTable
from csd_core.stores.protocol import Store
from csd_core.stores.qdrant import QdrantCollection
from csd_core.system.errors import ParamsError

SCHEMES = ("postgresql", "qdrant", "qdrants", "qdrant+file", "lancedb", "parquet", "faiss")


def is_address(text: str) -> bool:
    """Return whether a gallery is named by the address of a store, not by a folder."""
    return "://" in text


def open_store(address: str) -> Store:
    """Connect to a store.

    Raises:
        ParamsError: if the address names no store, or a library is not installed.
        ArtifactError: if there is no such store, or it cannot be reached.
    """
    parts = urlsplit(address)
    if parts.scheme not in SCHEMES:
        raise ParamsError(f"{_shown(parts)}: is no store; an address begins with {', '.join(SCHEMES)}, then ://")
    options = dict(parse_qsl(parts.query))
    name, path = _shown(parts), Path(unquote(parts.path))
    if parts.scheme in ("lancedb", "parquet", "faiss", "qdrant+file") and parts.netloc:
        raise ParamsError(f"{name}: has three slashes before a folder, as {parts.scheme}:///folder")

    def option(key: str, default: str | None = None) -> str:
        value = options.pop(key, default)
        if not value:
            raise ParamsError(f"{name}: lacks {key}=…, such as ?{key}=items")
        return value

    store: Store
    if parts.scheme == "postgresql":
        table, identity, vector = option("table"), option("id", "id"), option("vector", "embedding")
        connection = urlunsplit(parts._replace(query=urlencode(options)))
        return PostgresTable(connection, name=name, table=table, identity=identity, vector=vector)
    if parts.scheme.startswith("qdrant"):
        where = {"path": str(path)} if parts.scheme == "qdrant+file" else {"url": _http(parts)}
        collection, named = option("collection"), options.pop("vector", "")
        _refuse_more(options, name)
        return QdrantCollection(where, name=name, alias=collection, vector=named)
    if parts.scheme == "lancedb":
        store = LanceTable(path, name=name, table=option("table"), identity=option("id", "id"),
                           vector=option("vector", "vector"))  # fmt: skip
    elif parts.scheme == "parquet":
        store = ParquetFile(path, name=name, identity=option("id", "id"), vector=option("vector", "vector"))
    else:
        store = FaissFile(path, name=name)
    _refuse_more(options, name)
    return store


def _refuse_more(options: dict[str, str], name: str) -> None:
    if options:
        raise ParamsError(f"{name}: {next(iter(options))} is no option of this store; leave it out")


def _shown(parts: SplitResult) -> str:
    """Return the address without its password."""
    host = parts.netloc.rpartition("@")[2]
    user = parts.username or ""
    return urlunsplit(parts._replace(netloc=f"{user}@{host}" if user else host, query="")) + (
        "?" + "&".join(f"{key}={value}" for key, value in parse_qsl(parts.query) if key in ("table", "collection"))
        if parts.query
        else ""
    )


def _http(parts: SplitResult) -> str:
    return f"{'https' if parts.scheme == 'qdrants' else 'http'}://{parts.netloc}"
