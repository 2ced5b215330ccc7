"""A service over a release that two models' queries search: answers, vectors, writes, upgrades."""

import base64

import httpx
import numpy as np
import pytest
from projects import Project, pixels_of
from services import PNG, png, put, search, serving
from test_int8 import quantise

from csd_core.client import Client, ServiceError
from csd_core.commands.production.query import query
from csd_core.live.images import encode_png
from csd_core.releases.backfill.finish import complete
from csd_core.releases.publish import publish
from csd_core.releases.rollback import rollback
from csd_core.serving.loaded_release import _chosen
from csd_core.system.errors import CompatibilityError

OLD, NEW = 0, 2
"""Classes that came with t1 and t2."""


def merged(root, *, int8=False):
    """Releases of t1 (16 dimensions) and of t2 (24) under merge."""
    project = Project(root, tasks=("t1", "t2"))
    project.promote("t1", "none", dimension=16)
    if int8:
        quantise(project, "t1")
    publish(project.production, task="t1")
    project.promote("t2", "merge", dimension=24, drift=3.0)
    publish(project.production)
    return project


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """A service of release 2, whose tests write nothing."""
    project = merged(tmp_path_factory.mktemp("merged") / "project")
    with serving(project) as service:
        yield service


@pytest.fixture(scope="module")
def url(running):
    return running.url


@pytest.fixture(scope="module")
def models(running):
    """Digests of the older model and of the release's own."""
    return tuple(running.project.model(task).digest for task in ("t1", "t2"))


def as_json(url, **body):
    return httpx.post(f"{url}/v1/search", json=body, timeout=60)


def test_each_hit_says_which_model_found_it_and_with_which_cosine(url, models):
    old, new = models
    for kind, label, model in ((OLD, "t1-a", old), (NEW, "t2-a", new)):
        found = search(url, png(kind), k=5).json()
        assert (found["model"], found["query_models"]) == (new, [new, old])
        assert {(hit["label"], hit["found_by"], hit["space"]) for hit in found["hits"]} == {(label, model, model)}
        scores = [hit["score"] for hit in found["hits"]]
        assert scores == sorted(scores, reverse=True)
        assert all(-1 <= hit["cosine"] <= 1.001 for hit in found["hits"])
    assert {hit["found_by"] for hit in search(url, png(OLD), k=90).json()["hits"]} == {old, new}


def test_a_search_answers_as_the_releases_own_snapshot_does(running, url):
    images = pixels_of(OLD, 1, seed=5)
    hits = running.project.search(images, k=80)
    found = search(url, encode_png(images[0]), k=80).json()["hits"]
    assert [hit["id"] for hit in found] == hits.ids[0].tolist()
    np.testing.assert_allclose([hit["score"] for hit in found], hits.scores[0], atol=1e-3)


def test_embed_gives_the_vectors_of_both_models_and_a_search_takes_them(url, models):
    old, new = models
    embedded = httpx.post(f"{url}/v1/embed", content=png(OLD), headers=PNG, timeout=60).json()
    assert (embedded["model"], embedded["dimension"], len(embedded["vectors"][0])) == (new, 24, 24)
    assert {model: np.shape(vectors) for model, vectors in embedded["others"].items()} == {old: (1, 16)}
    vectors = [embedded["others"][old][0], embedded["vectors"][0]]
    by_vectors = as_json(url, vectors=vectors, models=[old, new], k=30)
    assert by_vectors.status_code == 200, by_vectors.text
    assert by_vectors.json()["hits"] == search(url, png(OLD), k=30).json()["hits"]


UNIT = {"old": [1.0] + [0.0] * 15, "new": [1.0] + [0.0] * 23}


@pytest.mark.parametrize(
    ("vectors", "status", "what"),
    [
        ({"old": UNIT["old"]}, 409, "2 models, and the vector by {new} is missing; send `vectors` and `models`"),
        ({"f" * 64: [1.0] * 16}, 409, "searched with {new}, {old}; embed the image again"),
        ({"old": [1.0] * 16, "new": UNIT["new"]}, 422, "not of unit length"),
        ({"old": [1.0], "new": UNIT["new"]}, 422, "1 dimensions, the gallery has 16"),
        ({}, 422, "vectors"),
    ],
)
def test_vectors_that_do_not_suffice_are_refused_in_one_line(url, models, vectors, status, what):
    names = dict(zip(("old", "new"), models, strict=True))
    answer = as_json(url, vectors=list(vectors.values()), models=[names.get(name, name) for name in vectors])
    assert answer.status_code == status, answer.text
    assert what.format(**{name: model[:12] for name, model in names.items()}) in answer.json()["detail"]


def test_one_vector_is_not_enough_for_two_models(url, models):
    old, new = models
    answer = as_json(url, vector=UNIT["new"], model=new)
    assert (answer.status_code, answer.json()["type"]) == (409, "urn:csd:problem:wrong-model")
    assert f"searched with 2 models, and the vector by {old[:12]} is missing" in answer.json()["detail"]
    both = as_json(url, vectors=[UNIT["new"]], models=[new], item="an-item")
    twice = as_json(url, vectors=[UNIT["new"]] * 2, models=[new, new])
    assert (twice.status_code, "the digest of one for each" in twice.text) == (422, True)
    assert (both.status_code, "give one of image, vector, vectors and item" in both.text) == (422, True)


def test_an_item_searches_by_both_models(running, url, models):
    item = next(name for name, row in running.project.rows().items() if row["embedded_by"] == models[0])
    found = as_json(url, item=item, k=5).json()["hits"]
    assert item not in {hit["id"] for hit in found}
    assert {hit["found_by"] for hit in found} == {models[0]}


def test_a_filter_on_what_one_model_made_leaves_the_others_rows_out(url, models):
    for model in models:
        found = as_json(url, image=_base64(OLD), k=90, filters={"embedded_by": [model]}).json()["hits"]
        assert len(found) == 48
        assert {hit["found_by"] for hit in found} == {model}


def test_the_release_before_is_searched_by_its_own_model_alone(url, models):
    found = search(url, png(OLD), k=3, release="before").json()
    assert (found["release"], found["query_models"]) == (1, [models[0]])
    assert [hit["score"] for hit in found["hits"]] == [hit["cosine"] for hit in found["hits"]]


def test_an_older_model_without_an_int8_variant_is_served_as_fp32_whatever_is_asked_for(running, models):
    old, new = models
    release = running.project.active()
    assert [_chosen(release, old, variant).variant for variant in ("auto", "int8", "fp32")] == ["fp32"] * 3
    with pytest.raises(CompatibilityError, match=r"no int8 model \(serve.variant\), only fp32"):
        _chosen(release, new, "int8")


def test_the_state_and_the_releases_name_both_models(running, url, models):
    old, new = models
    assert running.ready().json()["query_models"] == [new, old]
    listed = httpx.get(f"{url}/v1/releases", timeout=60).json()["releases"]
    assert [each["query_models"] for each in listed] == [[new, old], [old]]


def test_the_client_and_the_command_show_which_model_found_a_hit(url, models, tmp_path, capsys):
    old, _ = models
    with Client(url) as client:
        embedded = client.embed([png(OLD)])
        assert embedded.others.keys() == {old}
        hits = client.search(vectors=embedded.query(0), k=4).hits
        assert [hit.found_by for hit in hits] == [old] * 4
        assert all(hit.cosine < 1.001 for hit in hits)
        with pytest.raises(ServiceError, match="send `vectors` and `models` with that of each"):
            client.search(vector=embedded.vectors[0], model=embedded.model)
    (tmp_path / "image.png").write_bytes(png(OLD))
    query(tmp_path / "image.png", url=url, k=2)
    shown = capsys.readouterr()
    assert "found by" in shown.out
    assert old[:8] in shown.out
    assert "2 models' answers merged by their scores" in shown.out + shown.err


@pytest.mark.slow
def test_live_writes_a_backfill_and_a_rollback_while_it_serves(tmp_path):
    project = merged(tmp_path / "project", int8=True)
    old, new = (project.model(task).digest for task in ("t1", "t2"))
    image = encode_png(pixels_of(41, 1, seed=1)[0])
    with serving(project) as service:
        variant = service.ready().json()["query_models"]
        assert variant[0] == new
        assert variant[1] not in (old, new)  # the older model's int8 variant
        assert search(service.url, png(OLD), k=1).json()["hits"][0]["found_by"] == variant[1]
        written = put(service.url, "late", image, label="late").json()
        assert written["model"] == new
        service.wait_until(
            lambda _: search(service.url, image, k=1).json()["hits"][0]["id"] == "late",
            "a search finds what was written",
        )
        assert search(service.url, image, k=1).json()["hits"][0]["found_by"] == new
        complete(project.production, why="the rest")
        service.serves(3)
        found = search(service.url, png(OLD), k=5).json()
        assert (found["query_models"], {hit["found_by"] for hit in found["hits"]}) == ([new], {new})
        assert search(service.url, image, k=1).json()["hits"][0]["id"] == "late"
        rollback(project.production, 2, why="two models again")
        service.serves(4)
        found = search(service.url, png(OLD), k=5).json()
        assert found["query_models"] == variant
        assert search(service.url, image, k=1).json()["hits"][0]["id"] == "late"
        assert httpx.delete(f"{service.url}/v1/items/late", timeout=60).status_code == 204
    assert project.findings() == ()


def _base64(kind):
    return base64.b64encode(png(kind)).decode()
