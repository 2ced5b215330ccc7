"""Conditional writes and leases, against a real server whose answers may be late, lost or refusals."""

import threading
import time
from datetime import timedelta

import pytest
from faulty_store import proxy_before
from object_store import BUCKET, object_store

from csd_core.objects import lease as leases
from csd_core.objects import store as stores
from csd_core.objects.lease import Lease, LeaseLostError
from csd_core.objects.store import ConflictError, Objects
from csd_core.system.errors import ArtifactError, BusyError, ParamsError, StorageError


@pytest.fixture(scope="module")
def proxy():
    with (
        object_store() as running,
        proxy_before(running.environment["AWS_ENDPOINT_URL"]) as proxy,
        pytest.MonkeyPatch.context() as environment,
    ):
        for name, value in (running.environment | {"AWS_ENDPOINT_URL": proxy.url}).items():
            environment.setenv(name, value)
        environment.setattr(stores, "QUICK", timedelta(seconds=1))
        environment.setattr(stores, "PATIENCE", timedelta(seconds=2))
        environment.setattr(leases, "LEASE_SECONDS", 1.5)
        yield proxy


@pytest.fixture
def address(proxy, request):
    """A prefix of the test's own."""
    yield f"s3://{BUCKET}/{request.node.name.replace('[', '-').strip(']')}"
    proxy.trouble = lambda *_: None


def times(count, trouble, wanted):
    """Trouble for the first so many requests of a method."""
    left = [count]

    def answer(method, _path):
        if method != wanted or left[0] == 0:
            return None
        left[0] -= 1
        return trouble

    return answer


# --- objects ----------------------------------------------------------------------------------------------------------


def test_of_two_writers_who_read_the_same_object_one_is_refused(address):
    here, there = Objects(address), Objects(address)
    first = here.swap("current", b"1", known=None)
    with pytest.raises(ConflictError, match=f"{address}/current: somebody else"):
        there.swap("current", b"2", known=None)
    assert there.newer("current", first) is first
    second = there.swap("current", b"3", known=there.get("current"))
    with pytest.raises(ConflictError):
        here.swap("current", b"4", known=first)
    assert here.newer("current", first) == second == here.get("current")


def test_an_object_that_was_removed_is_not_replaced(address):
    objects = Objects(address)
    known = objects.swap("current", b"1", known=None)
    objects.delete(["current", "never there"])
    with pytest.raises(ConflictError):
        objects.swap("current", b"2", known=known)
    assert objects.get("current") is objects.newer("current", known) is None


@pytest.mark.parametrize("known", [False, True])
def test_a_write_whose_answer_was_lost_counts_as_done(proxy, address, known):
    objects = Objects(address)
    before = objects.swap("current", b"0", known=None) if known else None
    proxy.trouble = times(1, "lost", "PUT")
    done = objects.swap("current", b"1", known=before)
    assert objects.get("current") == done
    with pytest.raises(ConflictError):
        objects.swap("current", b"2", known=before)


@pytest.mark.parametrize("status", [429, 500, 503])
@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_a_store_that_throttles_is_asked_again(proxy, address, status, method):
    objects = Objects(address)
    first = objects.swap("current", b"1", known=None)
    proxy.trouble = times(2, status, method)
    assert objects.get("current") == first
    objects.swap("current", b"2", known=first)
    proxy.trouble = times(2, status, method)
    objects.put("folder/file", b"3")
    assert objects.listed("folder/") == ("folder/file",)


@pytest.mark.parametrize(
    ("trouble", "cause"),
    [
        (503, "503 Service Unavailable: SlowDown"),
        (403, "403 Forbidden: AccessDenied"),
        ("hangs", "not answered in time"),
    ],
)
def test_an_error_names_address_key_and_cause(proxy, address, trouble, cause):
    objects = Objects(address)
    proxy.trouble = lambda *_: trouble
    for call in (
        lambda: objects.get("current"),
        lambda: objects.swap("current", b"1", known=None),
    ):
        with pytest.raises(StorageError) as caught:
            call()
        assert f"{address}/current: the store: " in str(caught.value)
        assert cause in str(caught.value)
        assert "AWS_REGION" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_missing_object_is_none_and_a_missing_bucket_an_error(address, tmp_path):
    objects = Objects(address)
    assert objects.get("current") is None
    assert objects.listed() == ()
    with pytest.raises(ArtifactError, match="there is no such object"):
        objects.fetch("current", tmp_path / "file")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(StorageError, match=r"s3://nowhere/x/current: the store: 404 Not Found: NoSuchBucket"):
        Objects("s3://nowhere/x").get("current")


def test_an_address_that_is_no_store_is_refused(address):
    for uri in ("ftp://host/x", "file:///x", "memory://x"):
        with pytest.raises(ParamsError, match=f"live.releases: {uri}"):
            Objects(uri)


# --- leases -----------------------------------------------------------------------------------------------------------


def lease(address, what="the thing"):
    """As another process has it."""
    return Lease(Objects(address), "lease", what=what)


def test_a_lease_keeps_others_out_as_long_as_it_is_held(address):
    mine, other = lease(address), lease(address)
    with mine.held():
        first = mine.token
        with (
            pytest.raises(BusyError, match=r"the thing is in use by process \d+ on .+ and was so for 2 s"),
            other.held(wait=2),
        ):
            pass
        with mine.held():
            assert mine.token == first
        mine.check()
    with other.held(wait=0):
        assert other.token == first + 1
    with mine.held(wait=0, above=41):
        assert mine.token == 42


def test_of_many_who_wait_each_gets_it_alone(address):
    inside, most, tokens = [], [], []

    def work():
        mine = lease(address)
        with mine.held():
            inside.append(1)
            most.append(len(inside))
            tokens.append(mine.token)
            time.sleep(0.02)
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(most) == {1}
    assert sorted(tokens) == tokens == sorted(set(tokens))
    assert len(tokens) == 5


def test_a_lease_that_nobody_renews_is_taken_over_and_its_holder_finds_out(address):
    late, other = lease(address), lease(address)
    with pytest.raises(LeaseLostError, match="the thing was taken over by "), late.held():
        late._writing.acquire()  # so that its thread renews nothing
        start = time.monotonic()
        with other.held(wait=10):
            assert 1.5 <= time.monotonic() - start < 5
            assert other.token == late.token + 1
            late._writing.release()
            with pytest.raises(LeaseLostError):
                late.check()
            time.sleep(1)
            other.check()
    with late.held(wait=0):
        assert late.token == other.token + 3


def test_a_holder_whose_store_does_not_answer_stops_before_others_may_begin(proxy, address):
    mine = lease(address)
    with pytest.raises(LeaseLostError), mine.held():
        proxy.trouble = lambda *_: 503
        start = time.monotonic()
        while time.monotonic() < start + 1.3:
            time.sleep(0.05)
        proxy.trouble = lambda *_: None
        mine.check()


def test_who_may_only_read_does_so_without_a_lease(proxy, address):
    proxy.trouble = lambda method, _: 403 if method == "PUT" else None
    with lease(address).held_if_writable():
        pass
    with pytest.raises(StorageError, match="AccessDenied"), lease(address).held():
        pass
