"""Releases in an object store: several machines, each a folder of its own, that share nothing but the store."""

import shutil

import pytest
from faulty_store import proxy_before
from object_store import BUCKET, store_of_this_process
from projects import Project, pixels_of

from csd_core.objects.store import Objects, objects_at
from csd_core.releases.contents import golden_queries
from csd_core.releases.publish import publish
from csd_core.releases.rollback import rollback
from csd_core.retrieval.embedder import digest_of
from csd_core.system.errors import ArtifactError, CompatibilityError, CsdError, ParamsError


@pytest.fixture(scope="module")
def store():
    with store_of_this_process() as running:
        yield running


@pytest.fixture
def address(store, request):
    """A prefix of the test's own."""
    return f"s3://{BUCKET}/{request.node.name.replace('[', '-').strip(']')}"


@pytest.fixture
def here(tmp_path, address):
    """The first machine, with the pipeline's artefacts of two tasks."""
    project = Project(tmp_path / "here", settings={"uri": f"{address}/gallery", "releases": f"{address}/releases"})
    return project.promote("t1", "none").promote("t2", "adapt")


@pytest.fixture
def there(here, tmp_path):
    """Another machine: a checkout with the same artefacts and no copy of any release."""
    shutil.copytree(here.root, tmp_path / "there", ignore=shutil.ignore_patterns(".csd"))
    return Project(tmp_path / "there", tasks=here.tasks)


@pytest.mark.slow
def test_machines_that_share_only_the_store_publish_in_turn(here, there, address):
    first = publish(here.production, task="t1", by="olga")
    assert there.active().name == first.name
    second = publish(there.production, task="t2", by="piet")
    assert here.active().name == second.name
    here.put(pixels_of(0, 2, seed=7), "live")
    third = rollback(here.production, why="it was better")
    assert there.active().name == third.name
    assert there.active().record.rolled_back_to == first.number
    assert [each.record.by for each in there.production.releases.all()][:2] == ["olga", "piet"]
    assert there.findings() == here.findings() == ()
    assert len(there.rows()) == 50
    keys = {key.split("/")[0] for key in Objects(f"{address}/releases").listed()}
    assert keys == {"current", "audit", "leases", "project", first.name, second.name, third.name}


def test_a_copy_that_was_damaged_or_removed_is_made_again(here, there):
    release = publish(here.production, task="t1")
    flip_a_byte(there.active().embedder)
    (there.active().folder / "check.json").unlink()
    assert there.active().name == release.name
    assert digest_of(there.active().embedder) == release.record.model
    shutil.rmtree(there.root / ".csd")
    assert (there.active().folder / "check.json").read_bytes() == (release.folder / "check.json").read_bytes()


def test_what_is_damaged_in_the_store_is_found_and_never_taken(here, there, address):
    first = publish(here.production, task="t1")
    objects = Objects(f"{address}/releases")
    keys = objects.listed()
    model = next(key for key in keys if key.endswith("/embedder.onnx"))
    line = next(key for key in keys if key.startswith("audit/00000002"))
    current = objects.get("current").body

    def findings_with(key, body):
        """Of a verification on another machine, while an object is another or gone; None for gone."""
        kept = objects.get(key)
        objects.delete([key])
        if body is not None:
            objects.put(key, body)
        try:
            yield "\n".join(here.findings())
            shutil.rmtree(there.root / ".csd", ignore_errors=True)
            with pytest.raises(CsdError) as caught:
                there.production.releases.active()
            yield str(caught.value)
        finally:
            objects.delete([key])
            if kept is not None:
                objects.put(key, kept.body)

    found, told = findings_with(model, b"another model")
    assert f"release {first.name}: embedder.onnx has 13 bytes, not" in found
    assert f"{address}/releases/{model}: was changed: its sha256 is not the recorded one" in told
    found, told = findings_with(model, None)
    assert f"release {first.name}: embedder.onnx is missing" in found
    assert f"{address}/releases/{model}: there is no such object" in told
    found, told = findings_with(line, b'{"line": 2}')
    assert "audit.jsonl: line 2 is no audit entry" in found
    assert f"{address}/releases/{line}: was changed" in told
    found, told = findings_with(line, None)
    assert "audit.jsonl: line 2 is no audit entry" in found
    assert f"{address}/releases/{line}: is gone" in told
    found, told = findings_with("current", current.replace(b"0001-", b"0002-"))
    assert "current points to '0002-" in found
    assert f"{address}/releases/current: points to '0002-" in told
    objects.put("stray/file", b"")
    assert here.findings() == ("stray does not belong among the releases",)
    objects.delete(["stray/file", "current"])
    with pytest.raises(ArtifactError, match=f"{address}/releases/current: is gone, though there is an audit log"):
        publish(here.production, task="t2")


def test_an_erased_item_is_in_no_object_of_the_releases(here, there, address):
    publish(here.production, task="t1")
    release = publish(here.production, task="t2")
    images, record = golden_queries.load(release.folder / golden_queries.FOLDER)
    image, identity = images[0].tobytes(), record.queries[0].item
    objects = Objects(f"{address}/releases")
    assert any(image in objects.get(key).body for key in objects.listed())
    production = there.production
    with production.releases.changing():
        report = production.live.erase([identity])
        changed = production.releases.forget([identity], tagged=report.tagged)
    assert release.name in changed
    assert not any(word in objects.get(key).body for key in objects.listed() for word in (image, identity.encode()))
    assert here.findings() == there.findings() == ()
    assert here.active().record.rows == release.record.rows - 1


def test_a_gallery_is_of_the_project_whose_releases_lie_in_the_store(here, there, tmp_path, address):
    publish(here.production, task="t1")
    there.put(pixels_of(0, 1, seed=5), "live")
    stranger = Project(tmp_path / "stranger", settings={"uri": f"{address}/gallery", "releases": f"{address}/others"})
    stranger.promote("t1", "none")
    with pytest.raises(CompatibilityError, match=f"belongs to the project at {address}/releases"):
        publish(stranger.production, task="t1")


@pytest.mark.slow
def test_a_listing_that_lags_behind_hides_nothing(store, here, there, address, monkeypatch):
    with proxy_before(store.environment["AWS_ENDPOINT_URL"]) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        objects_at.cache_clear()
        empty = b"<ListBucketResult><KeyCount>0</KeyCount><IsTruncated>false</IsTruncated></ListBucketResult>"
        proxy.trouble = lambda _, path: empty if "list-type=2" in path and "releases" in path else None
        first = publish(here.production, task="t1")
        second = publish(there.production, task="t2")
        shutil.rmtree(here.root / ".csd")
        assert [each.name for each in here.production.releases.all()] == [first.name, second.name]
        assert here.active().name == second.name
        assert sum("list-type=2" in path and "releases" in path for _, path in proxy.asked) > 0
    objects_at.cache_clear()


def test_releases_in_a_store_need_a_gallery_that_machines_share(tmp_path):
    with pytest.raises(ParamsError, match="live.releases: s3://bucket/x: machines share the releases, and live.uri"):
        Project(tmp_path, settings={"releases": "s3://bucket/x"}).files.params()


def flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
