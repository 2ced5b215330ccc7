"""JSON documents that are far larger than any message: refused unparsed, with few mistakes named."""

import json
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from csd_core.serving.http import bodies
from csd_core.serving.http.asks import PIXEL, EmbedAsk, PutAsk, SearchAsk
from csd_core.serving.http.bodies import parse
from csd_core.serving.http.problems import Problem

MANY = 200_000
HUGE = {
    "unknown keys": b'{"item": "a"' + b"".join(b', "k%d": 1' % number for number in range(MANY)) + b"}",
    "one key again and again": b'{"item": "a"' + b', "k": 1' * MANY + b"}",
    "unknown keys in filters": b'{"item": "a", "filters": {"a": 1' + b', "b": 1' * MANY + b"}}",
    "nesting": b'{"item": ' + b"[" * MANY + b"]" * MANY + b"}",
    "empty objects": b'{"filters": [' + b"{}," * MANY + b"{}]}",
    "digits": b'{"item": "a", "k": ' + b"9" * 1_000_000 + b"}",
    "a number of digits in a vector": b'{"model": "a", "vector": [0.' + b"1" * 1_000_000 + b"]}",
    "not a number": b'{"model": "a", "vector": [' + b"NaN," * MANY + b"1]}",
    "nulls": b'{"model": "a", "vector": [' + b"null," * MANY + b"1]}",
    "a million numbers": b'{"model": "a", "vector": [' + b"0.5," * 1_000_000 + b"1]}",
    "labels": b'{"item": "a", "filters": {"label": [' + b'"a",' * MANY + b'"a"]}}',
    "a long label": b'{"item": "a", "filters": {"label": ["' + b"x" * 5_000_000 + b'"]}}',
    "escapes": b'{"item": "' + b'\\"' * 2_000_000 + b'"}',
    "backslashes": b'{"item": "' + b"\\\\" * 2_000_000 + b'"}',
    "a text without an end": b'{"item": "' + b"\\" * 3_000_000,
    "blanks": b" " * 5_000_000,
    "a long key": b'{"' + b"x" * 1_000_000 + b'": 1}',
}


def refusal(body, message=SearchAsk):
    with pytest.raises(Problem) as caught:
        parse(body, message)
    assert caught.value.status == 422
    return caught.value


@pytest.mark.parametrize("name", HUGE)
def test_a_huge_document_is_refused_with_few_words_and_little_memory(name):
    tracemalloc.start()
    try:
        problem = refusal(HUGE[name])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(json.dumps(problem.extra)) + len(problem.detail) < 10_000
    assert peak < 16 << 20


@pytest.mark.parametrize("name", ["unknown keys", "nesting", "digits", "a million numbers", "labels", "escapes"])
def test_a_document_that_no_message_can_be_never_meets_the_parser(name, monkeypatch):
    monkeypatch.setattr(SearchAsk, "model_validate_json", lambda _: pytest.fail("was parsed"))
    refusal(HUGE[name])


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ('{"itme": "a"}', "itme: unknown; did you mean item?"),
        ('{"item": "a", "filters": {"labell": ["b"]}}', "labell: unknown; did you mean label?"),
        ('{"item": "a", "item": "b"}', "item: is given twice"),
        ('{"item": "a", "\\u0069tem": "b"}', "item: is given twice"),
        ('{"item": "a", "k": 1e999}', "k: "),
    ],
)
def test_a_mistake_is_named(body, says):
    assert refusal(body.encode()).detail.startswith(says)


def test_the_largest_messages_that_make_sense_are_taken():
    vector = [0.12345678901234567] * 65_536
    assert len(parse(json.dumps({"vector": vector, "model": "m"}).encode(), SearchAsk).vector) == len(vector)
    words = [f'{number}:{{[,\\"' for number in range(1000)]
    asked = {"item": '": {"', "filters": {"label": words, "task": words, "embedded_by": words[:100]}}
    assert parse(json.dumps(asked).encode(), SearchAsk).filters.label == words
    assert len(parse(json.dumps({"images": [PIXEL] * 1024}).encode(), EmbedAsk).images) == 1024
    image = {"label": "a", "image": "A" * (4 << 20)}
    assert len(parse(json.dumps(image).encode(), PutAsk).image) == 3 << 20


@settings(max_examples=200, deadline=None)
@given(
    item=st.text(min_size=1, max_size=30).filter(lambda text: "\0" not in text),
    k=st.integers(1, 10**9),
    label=st.lists(st.text(min_size=1, max_size=10).filter(lambda text: "\0" not in text), min_size=1, max_size=5),
    escape=st.booleans(),
)
def test_what_is_looked_over_reads_as_the_parser_reads_it(item, k, label, escape):
    body = json.dumps({"item": item, "k": k, "filters": {"label": label}}, ensure_ascii=escape)
    found = parse(body.encode(), SearchAsk)
    assert (found.item, found.k, found.filters.label) == (item, k, label)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_refused(body):
    refusal(body)
    refusal(b'{"item": "' + body.replace(b'"', b"") + b"\xff")


def test_pieces_are_cut_without_looking_at_each_character():
    assert len(list(bodies._pieces(b'{"image": "' + b"A" * 1_000_000 + b'"}'))) == 3
