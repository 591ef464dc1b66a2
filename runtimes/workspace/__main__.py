"""`python -m runtimes.workspace`: JupyterLab where it is installed, else the notebook server alone.

What it needs to know is in the environment, as the pod's manifest sets it:

    WORKSPACE_ID            public id of the workspace
    WORKSPACE_PATH          path of its address at the gateway, which passes it on
    WORKSPACE_FOLDER        where notebooks are
    WORKSPACE_HOST, _PORT   where to listen
    WORKSPACE_TOKEN_SHA256  of the token that opens it, hexadecimal
"""

from __future__ import annotations

import importlib.util
import os
import sys

CONFIGURATION = os.path.join(os.path.dirname(__file__), "jupyter_server_config.py")
BAD_CONFIGURATION = 78
"""Exit code (`ExitCode.BAD_CONFIGURATION` of the contract): nothing but another environment helps."""
REQUIRED = (
    "WORKSPACE_ID",
    "WORKSPACE_PATH",
    "WORKSPACE_FOLDER",
    "WORKSPACE_HOST",
    "WORKSPACE_PORT",
    "WORKSPACE_TOKEN_SHA256",
)


def main() -> None:
    """Becomes the notebook server: signals reach it as if we had never been here."""
    missing = [name for name in REQUIRED if not os.environ.get(name)]
    if missing:
        sys.exit(_refused("not set: " + ", ".join(missing)))
    application = "jupyterlab" if importlib.util.find_spec("jupyterlab") else "jupyter_server"
    if not importlib.util.find_spec(application):
        sys.exit(_refused("neither jupyterlab nor jupyter_server is installed"))
    os.makedirs(os.environ["WORKSPACE_FOLDER"], exist_ok=True)
    os.chdir(os.environ["WORKSPACE_FOLDER"])
    os.execv(sys.executable, [sys.executable, "-m", application, "--config=" + CONFIGURATION])


def _refused(why: str) -> int:
    print("The workspace cannot start; " + why, file=sys.stderr)
    return BAD_CONFIGURATION


if __name__ == "__main__":
    main()
