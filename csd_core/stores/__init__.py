"""Vector stores that people have, behind one protocol: what an upgrade reads and writes there, not what it decides."""
