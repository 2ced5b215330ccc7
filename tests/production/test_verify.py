import hashlib
import json
import shutil
from datetime import datetime

import lancedb
import numpy as np
import pyarrow as pa
import pytest
from projects import Project, pixels_of

from csd_core.audit.checksums import CHECKSUMS, Checksums
from csd_core.audit.log import AuditEntry
from csd_core.live.rows import LiveItems
from csd_core.releases.publish import publish
from csd_core.releases.rollback import rollback
from csd_core.releases.verify import verify
from csd_core.system.errors import ArtifactError


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """Two releases under adapt, with live rows."""
    project = Project(tmp_path_factory.mktemp("template") / "project", tasks=("t1", "t2"))
    project.promote("t1", "none").promote("t2", "adapt")
    publish(project.production, task="t1")
    project.put(pixels_of(40, 2, seed=1), "live")
    publish(project.production)
    return project


@pytest.fixture
def project(template, tmp_path):
    return template.copied_to(tmp_path / "project")


@pytest.fixture
def folder(project):
    """Of the active release."""
    return project.active().folder


def flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_releases_as_they_were_made_have_no_findings(project):
    production = project.production
    found = verify(production.releases, production.live, which="all")
    assert (found.findings, found.notes) == ((), ())
    assert [name[:4] for name in found.checked] == ["0001", "0002"]
    assert found.last_line == production.releases.audit.read().last


def test_live_writes_after_a_release_are_no_tampering(project):
    project.put(pixels_of(44, 1, seed=1), "later")
    project.delete(sorted(project.rows())[:1])
    production = project.production
    production.live.compact(project.active().table)
    assert project.findings() == ()


def test_a_flipped_bit_in_any_file_of_any_release_is_found(project):
    files = [path for path in (project.root / "releases").glob("0*/**/*") if path.is_file()]
    assert len(files) > 20
    for path in files:
        original = path.read_bytes()
        flip_a_byte(path)
        findings = project.findings()
        assert findings, path
        assert any(path.parts[-1].split(".")[0] in line or "not a" in line for line in findings), (path, findings)
        assert all("\n" not in line for line in findings)
        path.write_bytes(original)
    assert project.findings() == ()


def test_a_deleted_file_is_found(project, folder):
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        original = path.read_bytes()
        path.unlink()
        assert project.findings(), path
        path.write_bytes(original)
    assert project.findings() == ()


@pytest.mark.parametrize("name", ["extra.txt", "known/extra.npy", ".hidden", "new/folder/file"])
def test_an_added_file_is_found(project, folder, name):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(b"")
    (line,) = project.findings()
    assert line == f"release {folder.name}: {name} was added"


def test_a_file_replaced_by_a_link_to_the_same_content_is_found(project, folder, tmp_path):
    shutil.copy(folder / "embedder.onnx", tmp_path / "elsewhere.onnx")
    (folder / "embedder.onnx").unlink()
    (folder / "embedder.onnx").symlink_to(tmp_path / "elsewhere.onnx")
    (line,) = project.findings()
    assert line == f"release {folder.name}: embedder.onnx is no regular file"


def test_a_linked_folder_is_found(project, folder, tmp_path):
    shutil.move(folder / "known", tmp_path / "known")
    (folder / "known").symlink_to(tmp_path / "known")
    assert f"release {folder.name}: known was added" in project.findings()


def test_a_record_edited_together_with_its_checksum_is_found_by_the_audit_log(project, folder):
    record = json.loads((folder / "release.json").read_text())
    record["why"] = "another reason"
    (folder / "release.json").write_text(json.dumps(record))
    Checksums.of(folder).save(folder / CHECKSUMS)
    (line,) = project.findings()
    assert line == f"release {folder.name}: checksums.json was changed: its sha256 is not the one in the audit log"


def test_a_model_swapped_with_record_checksums_and_the_log_s_last_line_breaks_the_chain(project, folder):
    shutil.copy(project.root / "releases" / project.production.releases.names()[0] / "embedder.onnx", folder)
    Checksums.of(folder).save(folder / CHECKSUMS)
    log = project.production.releases.audit.path
    *lines, last = log.read_bytes().splitlines()
    entry = AuditEntry.model_validate_json(last)
    digest = hashlib.sha256((folder / CHECKSUMS).read_bytes()).hexdigest()
    forged = entry.model_copy(update={"checksums": {folder.name: digest}})
    log.write_bytes(b"\n".join([*lines, forged.model_dump_json(exclude_defaults=True).encode()]) + b"\n")
    findings = project.findings()
    assert any("is another than audit.head says" in line for line in findings)
    assert any("embedder.onnx is model" in line for line in findings)  # against the record too


@pytest.mark.parametrize("number", [1, 2])
def test_a_row_changed_at_the_tag_is_found(project, number):
    release = project.production.releases.get(number)
    retagged(project, release, lambda rows: change(rows, "label", "forged"))
    assert f"release {release.name}: table {release.table}: a row at its tag was changed" in project.findings()


def test_a_vector_changed_in_its_last_bit_at_the_tag_is_found(project):
    release = project.active()

    def nudge(rows):
        vector = np.array(rows[0]["vector"], np.float32)
        vector[0] = np.nextafter(vector[0], np.float32(2))
        rows[0]["vector"] = vector.tolist()

    retagged(project, release, nudge)
    assert f"release {release.name}: table {release.table}: a row at its tag was changed" in project.findings()


def test_an_image_changed_at_the_tag_is_found(project):
    release = project.active()
    retagged(project, release, lambda rows: change(rows, "image", rows[1]["image"]))
    assert f"release {release.name}: table {release.table}: a row at its tag was changed" in project.findings()


@pytest.mark.parametrize(("column", "value"), [("revision", "forged"), ("written_at", datetime(2020, 2, 2))])  # noqa: DTZ001 - as stored
def test_a_revision_or_time_of_writing_changed_at_the_tag_is_found(project, column, value):
    release = project.active()
    retagged(project, release, lambda rows: change(rows, column, value))
    assert f"release {release.name}: table {release.table}: a row at its tag was changed" in project.findings()


def test_a_row_added_at_the_tag_is_found(project):
    release = project.active()
    retagged(project, release, lambda rows: rows.append(rows[0] | {"id": "smuggled"}))
    assert any(f"has {release.record.rows + 1} rows at its tag" in line for line in project.findings())


def test_a_row_removed_at_the_tag_is_found(project):
    release = project.active()
    retagged(project, release, lambda rows: rows.pop())
    assert any(f"has {release.record.rows - 1} rows at its tag" in line for line in project.findings())


def change(rows, column, value):
    rows[0][column] = value


def retagged(project, release, tamper):
    """Change the rows of a release's table behind its back and move its tag there."""
    connection = lancedb.connect(str(project.root / "live"))
    (name,) = (name for name in connection.list_tables().tables if name.startswith(f"{release.table}."))
    table = connection.open_table(name)
    table.checkout(release.tag)
    rows, schema = table.to_arrow().to_pylist(), table.schema
    tamper(rows)
    table.checkout_latest()
    table.delete("true")
    table.add(pa.Table.from_pylist(rows, schema=schema))
    table.tags.update(release.tag, table.version)


def test_a_moved_tag_is_found(project):
    release = project.active()
    project.put(pixels_of(44, 1, seed=1), "later")
    project.production.live.tag(release.table, release.tag)
    assert any("rows at its tag" in line for line in project.findings())


def test_a_lost_tag_or_table_is_found(project):
    release, former = project.active(), project.production.releases.get(1)
    project.production.live.untag(release.table, release.tag)
    project.production.live.drop(former.table)
    findings = project.findings()
    assert f"release {release.name}: table {release.table} has lost its tag {release.tag}" in findings
    assert f"release {former.name}: table {former.table} is gone from the live gallery" in findings


def test_a_table_that_belongs_to_no_release_is_found(project, gallery_of_items):
    project.production.live.build("gallery-0009-abcdefabcdef", gallery_of_items(5), origin="pipeline", images=None)
    assert project.findings() == ("live gallery: table gallery-0009-abcdefabcdef belongs to no release",)


def test_rows_in_force_in_a_space_that_may_not_be_searched_are_found(project, gallery_of_items):
    foreign = gallery_of_items(1, model="c" * 64, dimension=16)
    project.production.live.upsert(
        project.active().table,
        LiveItems(ids=foreign.ids, labels=foreign.labels, vectors=foreign.vectors, embedded_by="c" * 64),
    )
    (line,) = project.findings()
    assert "active rows: " in line
    assert "1 rows are in the space of cccccccccccc" in line


@pytest.mark.parametrize("content", ["0009-abcdefabcdef\n", "../elsewhere\n", "", "0001"])
def test_a_pointer_to_nowhere_is_found_and_never_followed(project, content):
    (project.root / "releases" / "current").write_text(content)
    assert any(line.startswith("current points to") and "audit log says" in line for line in project.findings())
    with pytest.raises(ArtifactError, match="which is no release"):
        project.production.releases.active()


def test_a_pointer_set_to_another_release_is_found(project):
    first, second = project.production.releases.names()
    (project.root / "releases" / "current").write_text(f"{first}\n")
    assert f"current points to {first}, the audit log says that {second} is active" in project.findings()


def test_a_missing_pointer_is_found(project):
    (project.root / "releases" / "current").unlink()
    (line,) = project.findings()
    assert line.startswith("current is missing; the audit log says that 0002-")


def test_a_release_that_is_gone_is_found(project):
    name = project.production.releases.names()[0]
    shutil.rmtree(project.root / "releases" / name)
    assert f"release {name}: its folder is gone, though the audit log has it" in project.findings()


def test_a_release_that_the_log_does_not_know_is_found(project, folder):
    shutil.copytree(folder, folder.with_name("0009-abcdefabcdef"))
    findings = project.findings()
    assert "release 0009-abcdefabcdef: the audit log does not know it" in findings
    assert f"release 0009-abcdefabcdef: its record says it is {folder.name}" in findings


def test_a_strange_file_among_the_releases_is_found(project):
    (project.root / "releases" / "notes.txt").write_text("hello")
    assert project.findings() == ("notes.txt does not belong among the releases",)


def test_another_answer_to_a_known_query_is_found_though_all_checksums_agree(project, folder):
    record = json.loads((folder / "known" / "known.json").read_text())
    record["queries"][0]["ids"][0] = "another"
    (folder / "known" / "known.json").write_text(json.dumps(record))
    Checksums.of(folder).save(folder / CHECKSUMS)
    production = project.production
    digest = hashlib.sha256((folder / CHECKSUMS).read_bytes()).hexdigest()
    production.releases.audit.append("built", by="forger", release=folder.name, checksums={folder.name: digest})
    (line,) = project.findings()
    assert "its nearest items are others than when the release was made" in line


def test_only_the_release_in_force_is_looked_at_unless_others_are_asked_for(project):
    production = project.production
    first, second = production.releases.names()
    flip_a_byte(project.root / "releases" / first / "embedder.onnx")
    assert verify(production.releases, production.live).findings == ()
    assert verify(production.releases, production.live).checked == (second,)
    assert len(verify(production.releases, production.live, which=1).findings) == 1
    with pytest.raises(ArtifactError, match="release 8: there is no such release"):
        verify(production.releases, production.live, which=8)


def test_an_unfinished_run_is_a_note_and_no_finding(project):
    production = project.production
    audit = production.releases.audit
    audit.append("begun", by="olga", release="0003-abcdefabcdef", from_release=project.active().name, table="gallery")
    found = verify(production.releases, production.live, which="all")
    assert found.findings == ()
    assert found.notes == (
        "release 0003-abcdefabcdef was begun and not finished: the next publish or rollback removes what it left",
    )


def test_a_project_without_releases_has_no_findings(tmp_path):
    project = Project(tmp_path / "project", tasks=("t1",))
    assert project.findings() == ()


def test_a_rolled_back_release_is_verified_like_any_other(project):
    rollback(project.production, 1, why="complaints")
    assert project.findings() == ()
    flip_a_byte(project.active().folder / "verdict.json")
    assert any("verdict.json was changed" in line for line in project.findings())


@pytest.mark.parametrize(
    "name", ["current", *(pytest.param(name, marks=pytest.mark.slow) for name in ("audit.head", "audit.jsonl"))]
)
def test_a_changed_byte_of_pointer_head_or_log_is_found_wherever_it_is(project, name):
    path = project.root / "releases" / name
    original = path.read_bytes()
    for place in range(0, len(original), max(1, len(original) // 40)):
        for mask in (1, 128):
            content = bytearray(original)
            content[place] ^= mask
            path.write_bytes(content)
            production = project.production
            assert verify(production.releases, production.live, which=1).findings, (place, mask)
    path.write_bytes(original)
    assert project.findings() == ()


def test_a_damaged_file_of_the_live_gallery_is_a_finding_and_no_traceback(project):
    release = project.active()
    (folder,) = (project.root / "live").glob(f"{release.table}.*")
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix == ".lance"]
    assert files
    for path in files:
        original = path.read_bytes()
        path.write_bytes(original[: len(original) // 2])
        assert project.findings(), path
        path.write_bytes(original)
    assert project.findings() == ()


def test_a_live_gallery_that_is_gone_is_found(project):
    shutil.rmtree(project.root / "live")
    assert sum("is gone from the live gallery" in line for line in project.findings()) == 2


def test_a_catalogue_that_cannot_be_read_is_a_finding(project):
    for path in (project.root / "live" / "catalogue.lance").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    assert any("live gallery" in line for line in project.findings())
