"""Checks that a server speaks the OpenAI protocol as its clients expect, whoever wrote the server.

`python -m tests.conformance BASE_URL` runs them against any server; without a URL they run against this
project's runtimes, on the models that come with the tests. Each module in `groups` is one group: its
functions that begin with `check_` are found by themselves, so adding a group is adding a module.
"""
