"""Random schedules of wishes and faults against the reconciler, PostgreSQL and the Kubernetes port over HTTP:
`make chaos-cluster`. Time is virtual, so that minutes of outage take milliseconds.
"""
