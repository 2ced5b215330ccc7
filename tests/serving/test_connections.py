"""What a client may hold without a whole request: little, and not for long."""

import asyncio
import json

import pytest
import uvicorn
from uvicorn.server import ServerState

from csd_core.serving.http import connections
from csd_core.serving.http.connections import MOST_HEADER_BYTES, MOST_HEADERS, Connection, most_connections

LARGE = 16 << 20
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


async def app(scope, receive, send):
    """Answer at once, without the body unless it is asked for."""
    size = 0
    while scope["path"] == "/read":
        message = await receive()
        size += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    if scope["path"] == "/slow":
        await asyncio.sleep(0.5)
    if scope["path"] == "/large":
        length = [(b"content-length", b"%d" % LARGE)]
        await send({"type": "http.response.start", "status": 200, "headers": length})
        await send({"type": "http.response.body", "body": bytes(LARGE)})
        return
    content = json.dumps({"bytes": size, "headers": len(scope["headers"])}).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(content))]})
    await send({"type": "http.response.body", "body": content})


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(connections, "HEADER_SECONDS", 0.3)
    monkeypatch.setattr(connections, "LINGER_SECONDS", 0.2)
    monkeypatch.setattr(connections, "WRITE_SECONDS", 0.3)
    monkeypatch.setattr(connections, "most_connections", lambda: 4)
    Connection._idle.clear()


def run(talk):
    """Talk to a server of this loop: `talk` is given what opens a connection."""

    async def main():
        config = uvicorn.Config(app, http=Connection, ws="none", lifespan="off", log_config=None)
        config.load()
        loop = asyncio.get_running_loop()
        state = ServerState()
        server = await loop.create_server(lambda: Connection(config, state, {}, loop), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        writers = []

        async def connect():
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writers.append(writer)
            return reader, writer

        try:
            return await asyncio.wait_for(talk(connect), 20)
        finally:
            for writer in writers:
                writer.transport.abort()
            server.close()
            await asyncio.sleep(0.01)

    return asyncio.run(main())


async def status(reader):
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    return int(head.split()[1]), json.loads(await reader.readexactly(length))


@pytest.mark.parametrize("sent", [b"", b"G", GET[:-2], GET + GET[:-2], b"\r\n\r\n"])
def test_half_a_request_is_given_up(sent):
    async def talk(connect):
        reader, writer = await connect()
        writer.write(sent)
        return await reader.read()

    assert run(talk).count(b"200 OK") == sent.count(GET)


def test_a_header_byte_by_byte_does_not_keep_it_open():
    async def talk(connect):
        reader, writer = await connect()
        writer.write(GET[:-2] + b"X: ")
        gone = asyncio.create_task(reader.read())
        while not gone.done():
            writer.write(b"a")
            await asyncio.sleep(0.02)
        return gone.result()

    assert run(talk) == b""


@pytest.mark.parametrize(
    "sent",
    [
        GET[:-2] + b"X: " + b"a" * (MOST_HEADER_BYTES + 1),
        GET[:-2] + b"X: " + b"a" * (MOST_HEADER_BYTES + 1) + b"\r\n\r\n",
        GET[:-2] + b"X: a\r\n" * (MOST_HEADERS + 1) + b"\r\n",
        b"GET /" + b"a" * (MOST_HEADER_BYTES + 1),
        GET[:-2] + b"X: " + b"a" * (8 << 20),
    ],
    ids=["endless", "whole", "many", "address", "megabytes"],
)
def test_headers_that_are_too_large_are_refused(sent):
    async def talk(connect):
        reader, writer = await connect()
        writer.write(sent)
        found = await status(reader)
        assert await reader.read() == b""
        return found

    code, problem = run(talk)
    assert (code, problem["type"]) == (431, "urn:csd:problem:headers-too-large")


def test_as_many_headers_as_are_allowed_are_taken():
    async def talk(connect):
        reader, writer = await connect()
        writer.write(GET[:-2] + b"X: " + b"a" * 600 + b"\r\n" + b"X: a\r\n" * (MOST_HEADERS - 2) + b"\r\n")
        return await status(reader)

    assert run(talk)[1]["headers"] == MOST_HEADERS


@pytest.mark.parametrize("trailer", [b"X: " + b"a" * (4 << 20), b"X: a\r\n" * 200_000], ids=["long", "many"])
def test_trailers_have_an_end_too(trailer):
    async def talk(connect):
        reader, writer = await connect()
        writer.write(b"POST /read HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n" + trailer)
        return await reader.read()

    assert b"200 OK" not in run(talk)


def test_a_body_after_its_answer_is_not_taken_in_for_ever():
    async def talk(connect):
        reader, writer = await connect()
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        found = await status(reader)
        gone = asyncio.create_task(reader.read())
        while not gone.done():
            writer.write(b"1\r\na\r\n")
            await asyncio.sleep(0.02)
        return found

    assert run(talk)[0] == 200


def test_a_connection_is_kept_for_the_next_request_whatever_the_body():
    async def talk(connect):
        reader, writer = await connect()
        for path in (b"/", b"/read"):
            writer.write(b"POST " + path + b" HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n" + b"a" * 200_000)
            assert (await status(reader))[0] == 200
        await asyncio.sleep(0.3)
        writer.write(GET + GET)
        return [(await status(reader))[0] for _ in range(2)]

    assert run(talk) == [200, 200]


def test_idle_clients_make_room_for_new_ones():
    async def talk(connect):
        first = await connect()
        first[1].write(GET)
        assert (await status(first[0]))[0] == 200
        others = [await connect() for _ in range(3)]
        await asyncio.sleep(0.05)
        new = await connect()
        new[1].write(GET)
        return (await status(new[0]))[0], await first[0].read(), len(others)

    assert run(talk) == (200, b"", 3)


def test_where_all_are_busy_a_new_client_is_told_to_come_again():
    async def talk(connect):
        busy = [await connect() for _ in range(4)]
        for _, writer in busy:
            writer.write(GET.replace(b"/ ", b"/slow "))
        await asyncio.sleep(0.1)
        new = await connect()
        head = await new[0].readuntil(b"\r\n\r\n")
        return head.lower(), [(await status(reader))[0] for reader, _ in busy]

    head, answers = run(talk)
    assert b"503" in head
    assert b"retry-after: 1" in head
    assert answers == [200] * 4


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET \xff HTTP/1.1\r\n\r\n",
        b"\0" * 100,
        b"CONNECT a:1 HTTP/1.1\r\n\r\n",
    ],
)
def test_what_is_no_http_is_refused(sent):
    async def talk(connect):
        reader, writer = await connect()
        writer.write(sent)
        return await reader.read()

    answer = run(talk)
    assert answer == b"" or answer.split()[1][:1] == b"4"


def test_descriptors_are_left_for_files(monkeypatch):
    for limit in (200, 1024, 1 << 20, -1):
        most_connections.cache_clear()
        monkeypatch.setattr(connections.resource, "getrlimit", lambda _, limit=limit: (limit, limit))
        assert 8 <= most_connections() <= connections.MOST_CONNECTIONS
        assert limit == -1 or most_connections() <= limit - min(64, limit // 4)
    most_connections.cache_clear()


def test_a_client_that_reads_nothing_of_its_answers_is_ended():
    async def talk(connect):
        reader, writer = await connect()
        writer.transport.pause_reading()
        writer.write(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n" * 2)
        await asyncio.sleep(1.5)
        writer.transport.resume_reading()
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(2 * LARGE)

    run(talk)


def test_a_client_that_reads_slowly_gets_its_whole_answer():
    async def talk(connect):
        reader, writer = await connect()
        writer.write(b"GET /large HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        got = 0
        while got < LARGE:
            await asyncio.sleep(0.02)
            got += len(await reader.readexactly(min(1 << 20, LARGE - got)))

    run(talk)
