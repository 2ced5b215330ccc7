"""ONNX graphs as csd keeps them: they say what they are, and nothing of where and by what they were made. No torch."""

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import onnx

IR_VERSION = 10
"""The newest that onnxruntime 1.20 reads."""


def strip(model: onnx.ModelProto, *, props: Mapping[str, str]) -> None:
    """Remove what a tool says about where and by what it ran: stack traces, source names, versions.

    Args:
        model: Changed in place.
        props: The only metadata properties that it has afterwards.
    """
    model.ir_version = IR_VERSION
    model.producer_name, model.producer_version, model.domain = "csd", "", ""
    graph = model.graph
    graph.name = "embedder"
    parts = [model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer]
    for part in parts:
        part.doc_string = ""
        del part.metadata_props[:]
    for key, value in sorted(props.items()):
        model.metadata_props.add(key=key, value=value)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence a converter: its warnings are about its own future, its log lines about steps that went well."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
