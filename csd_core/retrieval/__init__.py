"""Retrieval: the onnxruntime embedder, the gallery and its metrics. Plain arrays, no torch."""
