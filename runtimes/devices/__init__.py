"""Where a model computes: one module per kind of device, all answering `probe()`, picked in `picking.py`."""
