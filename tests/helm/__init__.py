"""Checks the Helm chart: `make chart`, and what pytest runs."""
