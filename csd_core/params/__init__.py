"""params.yaml as frozen models, one module for each block.

Reading, checking and editing the file belong here; using its values does not.
"""
