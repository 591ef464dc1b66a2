"""Deployments: what customers wish to serve, its revisions, replicas and events."""
