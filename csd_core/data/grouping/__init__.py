"""Images that are alike: which of a class share one role (`split.group`), the roles, and which the form makes equal."""
