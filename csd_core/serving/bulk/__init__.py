"""Vectors of a folder of images as one file, without a service. A stopped run resumes."""
