"""Kubernetes for the tests: a stand-in control plane, nodes for it and for a real one, a real one if given.

`standin.StandIn` is the control plane: an API server (`api`) over HTTP on loopback, with faults on purpose
(`api.faults`), and controllers and a scheduler (`controllers`). Any client speaks to it.
"""
