"""The demo's last page: what was used and what it cost, as the usage endpoint tells it."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any


def usage_table(usage: dict[str, Any]) -> list[str]:
    """Lines of a table with one row per resource and phase, and the totals."""
    rows = [("resource", "phase", "paid by", "minutes", "amount")]
    for line in usage["lines"]:
        rows.append(
            (
                line["resource_name"],
                line["phase"],
                line["cause"],
                f"{float(line['seconds']) / 60:.2f}",
                f"{Decimal(line['exact_amount']):.6f} {line['currency']}",
            )
        )
    for total in usage["totals"]:
        lines = [line for line in usage["lines"] if line["currency"] == total["currency"]]
        exact = sum(Decimal(line["exact_amount"]) for line in lines)
        rows.append(("total", "", "", "", f"{exact:.6f} {total['currency']}, {total['amount']} on a bill"))
    return align(rows)


def align(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Pads every column to its widest cell; the last is left as it is."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
