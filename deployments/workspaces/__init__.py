"""Workspaces: a notebook server on a framework and a flavor, with a volume of its own."""
