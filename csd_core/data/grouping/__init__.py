"""Images that are alike: which of a class share one role (`split.group`), and which the form of images makes equal."""
