"""What a project of one's own starts with: profiles of parameters, the template's files, and `csd init`'s work."""
