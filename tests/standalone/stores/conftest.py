import psycopg
import pytest
from postgres import postgres, programs_with_pgvector
from shops import Made

from csd_core.stores.address import open_store

KINDS = ("postgresql", "qdrant", "lancedb", "parquet", "faiss")


@pytest.fixture(scope="session")
def server():
    """PostgreSQL with pgvector."""
    with postgres(programs_with_pgvector) as running:
        with psycopg.connect(running.address) as connection:
            connection.execute("CREATE EXTENSION vector")
        yield running


@pytest.fixture(params=KINDS)
def made(request, tmp_path, server):
    """(ids, vectors) -> a store of each kind."""

    def make(ids, vectors):
        return Made(request.param, tmp_path, server, ids, vectors)

    return make


@pytest.fixture
def opened():
    """open_store, closed at the end."""
    stores = []

    def open_(address):
        stores.append(open_store(address))
        return stores[-1]

    yield open_
    for each in stores:
        each.close()
