"""What it runs on, as data: accelerators, flavors, regions, clusters and node pools."""
