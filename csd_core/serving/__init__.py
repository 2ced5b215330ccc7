"""The service: embeds and searches over HTTP with onnxruntime; no torch, no DVC, no Prefect."""
