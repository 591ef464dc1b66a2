"""The local cluster: the manifests that Kubernetes would get, run as processes of this machine.

Two halves share one folder (see `store`). `cluster.LocalCluster` is the port: any process may write wishes
(`objects/`) and read facts (`pods/`), also while the node is down. `daemon.Daemon` is the node: the one
process that turns wishes into containers and writes facts. Each container runs under a small supervisor of
its own (`shim`), so that the node can be killed and started again without its containers noticing.

What it does not do, because a process is not a container: it cannot make a mount read-only, limit memory or
filter the network. Linux only: it relies on flock, pidfd, prctl and inotify.
"""
