"""The main job, end to end, as a customer would do it: over HTTP only, against the running product."""
