"""The embedded defaults: PostgreSQL and Valkey from wheels, and the process manager that runs the product
on one machine with nothing installed."""
