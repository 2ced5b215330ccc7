"""The gate without the pipeline: two ONNX embedders and a folder of images or a gallery. No torch."""
