"""Stores as a shop has them, of every kind: a row has a number, a vector and, where there is room, a title."""

import faiss
import lancedb
import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pgvector.psycopg import register_vector
from qdrant_client import QdrantClient, models


def lists(vectors):
    return pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])


def drawn(rows, dimension, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(rows, dimension)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


class Made:
    """A store of numbered rows, each with a title where it has such columns.

    Attributes:
        address: Of the store.
    """

    def __init__(self, kind, folder, server, ids, vectors, *, index=True):
        self.kind, self._folder, self._server = kind, folder, server
        numbers = [int(each) for each in ids]
        self.table = f"items_{abs(hash(str(folder))) % 10**9}"
        if kind == "postgresql":
            self.address = f"{server.address}?table={self.table}"
            with psycopg.connect(server.address) as connection:
                register_vector(connection)
                connection.execute(
                    f"CREATE TABLE {self.table} (id bigint PRIMARY KEY, title text, "
                    f"embedding vector({vectors.shape[1]}) NOT NULL)"
                )
                if index:
                    connection.execute(f"CREATE INDEX ON {self.table} USING hnsw (embedding vector_cosine_ops)")
        elif kind == "qdrant":
            self.address = f"qdrant+file://{folder}/qdrant?collection=items"
            with_alias = models.CreateAlias(collection_name="items_1", alias_name="items")
            client = QdrantClient(path=folder / "qdrant")
            size = models.VectorParams(size=vectors.shape[1], distance=models.Distance.COSINE)
            client.create_collection("items_1", vectors_config=size)
            client.update_collection_aliases([models.CreateAliasOperation(create_alias=with_alias)])
            client.close()
        elif kind == "lancedb":
            (folder / "lance").mkdir()
            self.address = f"lancedb://{folder}/lance?table=items"
            lancedb.connect(folder / "lance").create_table("items", self._arrow(numbers, vectors))
        elif kind == "parquet":
            self.address = f"parquet://{folder}/items.parquet"
            pq.write_table(self._arrow(numbers, vectors), folder / "items.parquet")
        else:
            self.address = f"faiss://{folder}/items.index"
            index = faiss.IndexIDMap2(faiss.IndexFlatIP(vectors.shape[1]))
            index.add_with_ids(vectors, np.array(numbers))
            faiss.write_index(index, str(folder / "items.index"))
        if kind in ("postgresql", "qdrant"):
            self.insert(ids, vectors)

    @staticmethod
    def _arrow(numbers, vectors):
        return pa.table({"id": numbers, "title": [f"item {each}" for each in numbers], "vector": lists(vectors)})

    def insert(self, ids, vectors):
        """As the shop does that the store is of."""
        numbers = [int(each) for each in ids]
        if self.kind == "postgresql":
            with psycopg.connect(self._server.address) as connection:
                register_vector(connection)
                with connection.cursor().copy(f"COPY {self.table} (id, title, embedding) FROM STDIN") as copy:
                    for number, vector in zip(numbers, vectors, strict=True):
                        copy.write_row((number, f"item {number}", vector))
        elif self.kind == "qdrant":
            client = QdrantClient(path=self._folder / "qdrant")
            points = [
                models.PointStruct(id=number, vector=vector.tolist(), payload={"title": f"item {number}"})
                for number, vector in zip(numbers, vectors, strict=True)
            ]
            client.upsert("items", points)
            client.close()
        elif self.kind == "lancedb":
            lancedb.connect(self._folder / "lance").open_table("items").add(self._arrow(numbers, vectors))
        elif self.kind == "parquet":
            path = self._folder / "items.parquet"
            pq.write_table(pa.concat_tables([pq.read_table(path), self._arrow(numbers, vectors)]), path)
        else:
            index = faiss.read_index(str(self._folder / "items.index"))
            index.add_with_ids(vectors, np.array(numbers))
            faiss.write_index(index, str(self._folder / "items.index"))

    def change(self, identity, vector):
        """Give a row another vector."""
        if self.kind == "postgresql":
            self.query("UPDATE {t} SET embedding = %s WHERE id = %s", str(vector.tolist()), int(identity))
        elif self.kind == "qdrant":
            self.insert([identity], vector[None])
        elif self.kind == "lancedb":
            table = lancedb.connect(self._folder / "lance").open_table("items")
            table.update(where=f"id = {identity}", values={"vector": vector.tolist()})
        elif self.kind == "parquet":
            path = self._folder / "items.parquet"
            table = pq.read_table(path)
            stays = table.filter(pc.not_equal(table["id"], int(identity)))
            pq.write_table(pa.concat_tables([stays, self._arrow([int(identity)], vector[None])]), path)
        else:
            path = str(self._folder / "items.index")
            index = faiss.read_index(path)
            index.remove_ids(np.array([int(identity)]))
            index.add_with_ids(vector[None], np.array([int(identity)]))
            faiss.write_index(index, path)

    def titles(self):
        """Id -> title, as the shop sees it; None where rows have none."""
        if self.kind == "postgresql":
            return dict(self.query("SELECT id::text, title FROM {t}"))
        if self.kind == "qdrant":
            client = QdrantClient(path=self._folder / "qdrant")
            found = client.scroll("items", limit=100_000)[0]
            client.close()
            return {str(each.id): each.payload["title"] for each in found}
        if self.kind == "faiss":
            return None
        if self.kind == "lancedb":
            table = lancedb.connect(self._folder / "lance").open_table("items").to_arrow()
        else:
            table = pq.read_table(self._folder / "items.parquet")
        return {
            str(number): title
            for number, title in zip(table["id"].to_pylist(), table["title"].to_pylist(), strict=True)
        }

    def query(self, query, *values):
        """Run SQL on the table {t}."""
        with psycopg.connect(self._server.address) as connection:
            found = connection.execute(query.format(t=self.table), values or None)
            return found.fetchall() if found.description else None
