"""Models that csd did not export: what they take and make, brought into csd's form and verified."""
