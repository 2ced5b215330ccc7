"""Maps of stored vectors to a candidate's space: what fits them, what chooses one, and how rows go through it."""
