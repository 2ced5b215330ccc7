"""Trained networks as ONNX files, in float and in int8. Only this package turns torch modules into graphs."""
