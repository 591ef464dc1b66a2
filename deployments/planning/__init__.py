"""Decides, as values: memory fit, placement, quote and reasons. Pure: no Django, no network, no clock."""
