"""Samples of what the marketplace deploys, and the Kubernetes objects that they become."""
