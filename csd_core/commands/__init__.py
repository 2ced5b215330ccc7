"""The commands of `csd`, one module a noun; `tree` puts them together."""
