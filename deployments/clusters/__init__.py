"""The cluster port and its implementations. The only package that imports `kubernetes`."""
