"""The cluster port on a real Kubernetes cluster, through the official client.

`cluster.KubernetesCluster` is the port. `connection` makes one call and translates what can go wrong
(`failures`); `settings` reads the configuration of a cluster's row, `credentials` opens the client with it.
What the API server answers is turned into values by pure modules: `objects`, `pods`, `nodes`, `events`.

Of the client we use authentication, TLS and the connection pool, not its model classes: a list of 5,000
objects becomes values several times faster as plain JSON, and a manifest is plain JSON already.
"""
