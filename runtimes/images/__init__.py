"""Serving models that draw: diffusers' pipelines behind one engine."""
