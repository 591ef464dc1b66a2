"""A long run of the runtimes under more load than they can take: `make soak MINUTES=10`."""
