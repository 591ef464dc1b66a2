"""What it costs: price book, usage ledger, statements and quotas."""
