"""The notebook server of a workspace: Jupyter, opened by a token of which it knows only the SHA-256.

Runs in the images of frameworks, so under their Python (3.8 or newer) and without our other dependencies.
"""
