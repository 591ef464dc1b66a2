"""The groups of checks. A module has `TASK`, what a server must do to be asked, and functions `check_...`."""
