"""What it costs: price book, usage ledger and quotas."""
