"""What every REST endpoint shares: problem details, pagination, idempotency keys and size limits."""
