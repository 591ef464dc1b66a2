"""Samples of what customers ask for, as files: `manage.py manifests` prints the objects that they become."""
