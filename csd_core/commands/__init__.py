"""The commands of `csd`, one module a noun; `csd_core.cli` puts them together."""
