"""Folders of images, looked at before anything is trained: what is in them, what is wrong, and parameters that fit."""
