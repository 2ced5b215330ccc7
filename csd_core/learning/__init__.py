"""Learning: network, losses, teacher, training and export. The only package that loads torch."""
