"""`make chart`: lints and renders the chart with its defaults and with every file of helm/ci/, and checks
each object against the schemas of three Kubernetes versions. Exit code 1 when anything is wrong.
"""

from __future__ import annotations

import sys

from helm_python import HelmError

from tests.helm import chart
from tests.helm.schemas import mistakes


def main() -> int:
    failed = False
    for title, values in [
        ("defaults", {}),
        *((file.name, chart.read_values(file)) for file in chart.value_files()),
    ]:
        try:
            manifests = chart.render(values)
        except HelmError as error:
            found = [str(error)]
        else:
            found = [*chart.lint(values), *(line for manifest in manifests for line in mistakes(manifest))]
        if found:
            failed = True
            print(f"{title}: {len(found)} mistakes", *found, sep="\n  ")
        else:
            versions = ", ".join(chart.KUBERNETES_VERSIONS)
            print(f"{title}: {len(manifests)} objects, valid for Kubernetes {versions}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
