"""csd: keep a visual-search model learning without breaking its gallery."""
