"""The Helm chart as the tests see it: rendered by Helm's own engine, in this process, without a cluster."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import helm_python
import yaml

CHART = Path(__file__).parents[2] / "helm"
RELEASE = "shop"
NAMESPACE = "marketplace"
KUBERNETES_VERSIONS = ("1.30", "1.33", "1.36")
"""The oldest that the chart takes, one between, and the newest with a stable schema."""

Manifest = Mapping[str, Any]


def value_files() -> list[Path]:
    return sorted((CHART / "ci").glob("*.yaml"))


def read_values(file: Path) -> dict[str, Any]:
    return yaml.safe_load(file.read_text()) or {}


@cache
def _chart() -> helm_python.Chart:
    return helm_python.Chart.load(CHART)


def render(values: Mapping[str, Any], *, namespace: str = NAMESPACE) -> list[Manifest]:
    """Every object of the chart with these values. Raises HelmError for values that its schema refuses."""
    chart = _chart()
    chart.validate_schema(chart.merge_values(dict(values)))
    rendered = chart.render(dict(values), name=RELEASE, namespace=namespace)
    texts = [text for name, text in sorted(rendered.items()) if name.endswith(".yaml")]
    return [document for text in texts for document in yaml.safe_load_all(text) if document]


def notes(values: Mapping[str, Any]) -> str:
    """What a person reads after the installation."""
    rendered = _chart().render(dict(values), name=RELEASE, namespace=NAMESPACE)
    return next(text for name, text in rendered.items() if name.endswith("NOTES.txt"))


def lint(values: Mapping[str, Any]) -> list[str]:
    """What Helm's linter finds, in the strict mode."""
    report = helm_python.lint(CHART, dict(values), strict=True, namespace=NAMESPACE)
    return [f"{item['path']}: {item['error']}" for item in report["messages"] if item["severity"] > 1]
