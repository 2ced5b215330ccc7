"""Stages: one module per DVC stage; each opens files, calls one pure function and saves."""
