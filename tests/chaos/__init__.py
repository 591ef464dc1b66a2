"""Kills components of the running product at random and checks that everything comes right: `make chaos`."""
