"""Addresses of stores, and how they are opened.

    postgresql://user@host/database?table=items&id=id&vector=embedding
    qdrant://host:6333?collection=items&vector=image        (qdrants:// with TLS; QDRANT_API_KEY)
    qdrant+file:///folder?collection=items
    lancedb:///folder?table=items&id=id&vector=vector
    parquet:///folder/items.parquet?id=id&vector=vector
    faiss:///folder/items.index

`id` and `vector` may be left out where they are called so; a server's other options stay in its address.
"""

import re
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit, urlunsplit

from csd_core.stores.protocol import Store
from csd_core.system.errors import ParamsError

SERVERS: dict[str, dict[str, str | None]] = {
    "postgresql": {"table": None, "id": "id", "vector": "embedding"},
    "qdrant": {"collection": None, "vector": ""},
    "qdrants": {"collection": None, "vector": ""},
}
"""Options of a server's address with their defaults; None for none."""
IN_FOLDERS: dict[str, dict[str, str | None]] = {
    "qdrant+file": {"collection": None, "vector": ""},
    "lancedb": {"table": None, "id": "id", "vector": "vector"},
    "parquet": {"id": "id", "vector": "vector"},
    "faiss": {},
}
"""The same of what lies on a disk."""
SCHEMES = (*SERVERS, *IN_FOLDERS)


def is_address(text: str) -> bool:
    """Return whether a gallery is named by the address of a store, not by a folder."""
    return re.match(r"[a-z][a-z0-9+.-]+:/", text, re.IGNORECASE) is not None


def shown(address: str) -> str:
    """Return an address without its password, also one that is not well formed; folders have none."""
    if address.partition(":")[0] in IN_FOLDERS:
        return address
    without = re.sub(r"^([^:]*:/*[^:/?#@]*):.*@", r"\1@", address)
    return re.sub(r"(password|api_key)=[^&]*", r"\1=…", without, flags=re.IGNORECASE)


def open_store(address: str) -> Store:
    """Connect to a store; its library is loaded now.

    Raises:
        ParamsError: if the address names no store or is not well formed, or a library is not installed.
        ArtifactError: if there is no such store, or it cannot be reached.
    """
    parts, name = _split(address)
    path, options = Path(unquote(parts.path)), dict(parse_qsl(parts.query))
    if parts.scheme not in SCHEMES:
        raise ParamsError(f"{name}: is no store; an address begins with {', '.join(SCHEMES)}, then ://")
    if parts.scheme in IN_FOLDERS and parts.netloc:
        raise ParamsError(f"{name}: has three slashes before a folder, as {parts.scheme}:///folder")
    found = {key: options.pop(key, default) for key, default in (SERVERS | IN_FOLDERS)[parts.scheme].items()}
    if options and parts.scheme != "postgresql":
        raise ParamsError(f"{name}: {next(iter(options))} is no option of this store; leave it out")
    if None in found.values():
        key = next(key for key, value in found.items() if value is None)
        raise ParamsError(f"{name}: lacks {key}=…, such as ?{key}=items")
    given = {key: str(value) for key, value in found.items()}
    match parts.scheme:
        case "postgresql":
            from csd_core.stores.postgres import PostgresTable  # noqa: PLC0415 - a store loads its own library

            return PostgresTable(urlunsplit(parts._replace(query=urlencode(options))), name=name, **given)
        case "lancedb":
            from csd_core.stores.lance import LanceTable  # noqa: PLC0415 - a store loads its own library

            return LanceTable(path, name=name, **given)
        case "parquet":
            from csd_core.stores.parquet_file import ParquetFile  # noqa: PLC0415 - a store loads its own library

            return ParquetFile(path, name=name, **given)
        case "faiss":
            from csd_core.stores.faiss_file import FaissFile  # noqa: PLC0415 - a store loads its own library

            return FaissFile(path, name=name)
        case _:
            from csd_core.stores.qdrant import QdrantCollection  # noqa: PLC0415 - a store loads its own library

            http = "https" if parts.scheme == "qdrants" else "http"
            where = {"path": str(path)} if parts.scheme in IN_FOLDERS else {"url": f"{http}://{parts.netloc}"}
            return QdrantCollection(where, name=name, **given)


def _split(address: str) -> tuple[SplitResult, str]:
    """Return the parts of an address, and its name for messages: without a password, and without most options.

    Raises:
        ParamsError: if it is not well formed; PostgreSQL's library would print the password in its error.
    """
    try:
        parts, without = urlsplit(address), urlsplit(shown(address))
        odd = parts.hostname != without.hostname or parts.path != without.path or (parts.port or 1) < 1
    except ValueError as error:
        raise ParamsError(f"{shown(address)}: is no address ({error}); see docs/stores.md") from None
    kept = [f"{key}={value}" for key, value in parse_qsl(without.query) if key in ("table", "collection")]
    name = f"{without.scheme}://{without.netloc}{without.path}" + ("?" + "&".join(kept) if kept else "")
    if odd or re.search(r"%(?![0-9a-f]{2})|%00|@.*@", parts.netloc, re.IGNORECASE):
        raise ParamsError(
            f"{name}: its password has a character that an address cannot; leave it out and set PGPASSWORD or "
            "QDRANT_API_KEY, or write the character as % and two digits, such as %2F"
        )
    if parts.scheme in SCHEMES and "://" not in address:
        raise ParamsError(f"{name}: has two slashes after {parts.scheme}:, and a third before a folder")
    return parts, name
