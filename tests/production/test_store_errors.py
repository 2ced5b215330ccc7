"""What is said of an object store that does not answer as it should: its address, the cause and the remedy."""

import socket
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
from ports import free_port

from csd_core.live.gallery import LiveGallery
from csd_core.system.errors import ArtifactError

CHECK = "check live.uri and the variables AWS_ENDPOINT_URL, AWS_ALLOW_HTTP, AWS_REGION and the keys"


class Refusing(BaseHTTPRequestHandler):
    """A store that has no bucket."""

    def do_GET(self):
        body = b"<Error><Code>NoSuchBucket</Code><Message>The specified bucket does not exist</Message></Error>"
        self.send_response(404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def refusing():
    with HTTPServer(("127.0.0.1", 0), Refusing) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.fixture
def complaint(monkeypatch, tmp_path):
    """(port, further variables) -> what opening a live gallery there says."""

    def ask(port, **variables):
        given = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y", "AWS_REGION": "us-east-1"}
        for name, value in (given | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"} | variables).items():
            monkeypatch.setenv(name, value)
        with pytest.raises(ArtifactError) as caught:
            LiveGallery.open("s3://bucket/g", lock=tmp_path / "lock", root=tmp_path).tombstones()
        return str(caught.value)

    return ask


def test_an_address_without_tls_names_the_variable_that_allows_it(complaint, monkeypatch):
    monkeypatch.delenv("AWS_ALLOW_HTTP", raising=False)
    assert complaint(free_port()) == (
        "live gallery, s3://bucket/g: the store's address begins with http:, without TLS; set AWS_ALLOW_HTTP=true, or "
        "take an https: address"
    )


def test_a_store_that_is_not_there_is_named_with_the_cause(complaint):
    port = free_port()
    assert complaint(port, AWS_ALLOW_HTTP="true") == (
        f"live gallery, s3://bucket/g: the store cannot be reached: Connection refused (127.0.0.1:{port}); {CHECK}"
    )


def test_a_store_that_hangs_is_named_with_the_variables_that_say_how_long_it_may(complaint):
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        given = {"AWS_TIMEOUT": "100ms", "OBJECT_STORE_CLIENT_MAX_RETRIES": "0", "AWS_ALLOW_HTTP": "true"}
        assert complaint(hanging.getsockname()[1], **given) == (
            "live gallery, s3://bucket/g: the store does not answer in time (AWS_TIMEOUT and AWS_CONNECT_TIMEOUT say "
            f"how long it may take); {CHECK}"
        )


def test_a_bucket_that_is_not_there_is_named_with_what_the_store_says(complaint, refusing):
    assert complaint(refusing, AWS_ALLOW_HTTP="true") == (
        "live gallery, s3://bucket/g: the store answers NoSuchBucket: The specified bucket does not exist; " + CHECK
    )
