"""What everything else stands on: errors, whole files, processes, locks, git and the terminal.

Nothing here knows what csd is for.
"""
