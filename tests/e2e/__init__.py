"""The whole path on a Kubernetes cluster, from `helm install` to the receipt of what was deleted.

    MARKETPLACE_TEST_KUBECONFIG=… make test-e2e

What the cluster has to bring: nodes with the labels, taints and extended resources of `places.toml` (fake
ones will do: nothing here needs a GPU to be real), others labeled `marketplace.example/pool=system`, a way to
pull or to stand in for the images that the chart and the catalog name, images of PostgreSQL and Valkey, and
addresses of Services and pods that can be reached from here.

| variable | what it sets |
|---|---|
| `MARKETPLACE_TEST_KUBECONFIG` | The cluster; nothing runs without it |
| `E2E_VALUES` | YAML file with more values for the chart, such as an image registry |
| `E2E_LOSE_NODE`, `E2E_RECOVER_NODE` | Commands that take the node `{node}` away and bring it back |
"""
