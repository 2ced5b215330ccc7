"""What scheduled retraining needs to know, without a scheduler: the inbox, where to start, what became of each run."""
