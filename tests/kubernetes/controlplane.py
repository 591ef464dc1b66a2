"""A real Kubernetes control plane on loopback, for tests, where there is one to start or to use.

`KUBEBUILDER_ASSETS` names a folder with etcd and kube-apiserver, as Kubernetes' own envtest uses it, and
kube-controller-manager and kube-scheduler beside them, so that things also happen.
`MARKETPLACE_TEST_KUBECONFIG` names the kubeconfig of a control plane that runs already, without nodes of its
own. Neither: tests with the mark `cluster` are skipped.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import yaml

START_SECONDS = 60.0
FORGOTTEN_REVISIONS = 10
PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
NEITHER = (
    "no real API server: set KUBEBUILDER_ASSETS to a folder with "
    f"{', '.join(PROGRAMS)}, or MARKETPLACE_TEST_KUBECONFIG"
)


def missing() -> str:
    """Why there is no real control plane; empty when there is one."""
    if os.environ.get("MARKETPLACE_TEST_KUBECONFIG"):
        return ""
    folder = os.environ.get("KUBEBUILDER_ASSETS")
    if not folder:
        return NEITHER
    lacking = [name for name in PROGRAMS if not os.access(Path(folder) / name, os.X_OK)]
    return f"KUBEBUILDER_ASSETS={folder} lacks {', '.join(lacking)}" if lacking else ""


@contextmanager
def real_kubeconfig(folder: Path, *, alone: bool = False) -> Iterator[Path]:
    """The kubeconfig of a real control plane, started in the folder if need be; skips the test without.

    `alone`: where it can be started, another than the one that runs, so that no node of other tests is there.
    """
    if why := missing():
        pytest.skip(why)
    given, assets = os.environ.get("MARKETPLACE_TEST_KUBECONFIG"), os.environ.get("KUBEBUILDER_ASSETS")
    if given and not (alone and assets):
        yield Path(given)
        return
    assert assets is not None
    with ControlPlane(Path(assets), folder) as plane:
        yield plane.kubeconfig


class ControlPlane:
    """etcd, kube-apiserver, kube-controller-manager and kube-scheduler, with ports and files of their own."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self.folder = folder / "control-plane"
        self.folder.mkdir(parents=True)
        self._programs = programs
        self._stack = ExitStack()
        self._ports = _free_ports(3)
        self._token = secrets.token_urlsafe()
        self.kubeconfig = self.folder / "kubeconfig"

    def __enter__(self) -> ControlPlane:
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start(self) -> None:
        etcd, peer, port = self._ports
        folder = self.folder
        for command in (
            ("openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "sa.key"),
            ("openssl", "ec", "-in", "sa.key", "-pubout", "-out", "sa.pub"),
        ):
            subprocess.run(command, cwd=folder, check=True, capture_output=True)
        (folder / "tokens.csv").write_text(f"{self._token},admin,admin,system:masters\n")
        self._run(
            "etcd",
            f"--data-dir={folder}/etcd",
            f"--listen-client-urls=http://127.0.0.1:{etcd}",
            f"--advertise-client-urls=http://127.0.0.1:{etcd}",
            f"--listen-peer-urls=http://127.0.0.1:{peer}",
            "--unsafe-no-fsync",
        )
        _make_history(f"http://127.0.0.1:{etcd}/v3/kv/put")
        server = self._run(
            "kube-apiserver",
            f"--etcd-servers=http://127.0.0.1:{etcd}",
            "--bind-address=127.0.0.1",
            f"--secure-port={port}",
            f"--cert-dir={folder}/certificates",
            f"--token-auth-file={folder}/tokens.csv",
            f"--service-account-key-file={folder}/sa.pub",
            f"--service-account-signing-key-file={folder}/sa.key",
            "--service-account-issuer=https://kubernetes.default",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--authorization-mode=Node,RBAC",
            "--allow-privileged",
            "--endpoint-reconciler-type=none",
        )
        certificate = folder / "certificates" / "apiserver.crt"
        self.kubeconfig.write_text(yaml.safe_dump(self._configuration(port, certificate)))
        self._wait(server, f"https://127.0.0.1:{port}/readyz", certificate)
        self._run(
            "kube-controller-manager",
            f"--kubeconfig={self.kubeconfig}",
            f"--service-account-private-key-file={folder}/sa.key",
            f"--root-ca-file={certificate}",
            "--use-service-account-credentials",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            "--secure-port=0",
        )
        self._run(
            "kube-scheduler", f"--kubeconfig={self.kubeconfig}", "--leader-elect=false", "--secure-port=0"
        )

    def _configuration(self, port: int, certificate: Path) -> dict[str, object]:
        cluster = {"server": f"https://127.0.0.1:{port}", "certificate-authority": str(certificate)}
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "admin", "user": {"token": self._token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
            "current-context": "test",
        }

    def _run(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        with open(self.folder / f"{program}.log", "wb") as log:
            process = subprocess.Popen(
                [str(self._programs / program), *arguments], cwd=self.folder, stdout=log, stderr=log
            )
        self._stack.callback(_end, process)
        return process

    def _wait(self, server: subprocess.Popen[bytes], url: str, certificate: Path) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            assert server.poll() is None and time.monotonic() < deadline, self._log("kube-apiserver")
            try:
                context = ssl.create_default_context(cafile=str(certificate))
                request = urllib.request.Request(url, headers={"Authorization": f"Bearer {self._token}"})
                with urllib.request.urlopen(request, context=context, timeout=2):
                    return
            except (OSError, urllib.error.URLError):
                time.sleep(0.1)

    def _log(self, program: str) -> str:
        return (self.folder / f"{program}.log").read_text()[-3000:]


def main(command: Sequence[str]) -> int:
    """Runs a command beside a real control plane, which its environment names; without one says why not."""
    if why := missing():
        print(f"skipped: {why}")
        return 0
    with (
        tempfile.TemporaryDirectory(prefix="control-plane-") as folder,
        real_kubeconfig(Path(folder)) as path,
    ):
        environment = {**os.environ, "MARKETPLACE_TEST_KUBECONFIG": str(path)}
        return subprocess.run(command, env=environment, check=False).returncode


def _make_history(url: str) -> None:
    """Writes a few revisions before the API server begins, which it therefore has forgotten: a watch from one
    of them is answered with 410 Gone, as on a server that has run for a while."""
    entry = json.dumps({"key": base64.b64encode(b"/history").decode(), "value": ""}).encode()
    deadline = time.monotonic() + START_SECONDS
    written = 0
    while written < FORGOTTEN_REVISIONS:
        try:
            with urllib.request.urlopen(url, data=entry, timeout=2):
                written += 1
        except (OSError, urllib.error.URLError):
            assert time.monotonic() < deadline, "etcd does not start"
            time.sleep(0.1)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_ports(count: int) -> Sequence[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for item in sockets:
            item.bind(("127.0.0.1", 0))
        return [item.getsockname()[1] for item in sockets]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
