"""Makes it so: one idempotent reconcile per workload, a sweep over everything, and a watch that rings."""
