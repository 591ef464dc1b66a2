"""Runs the containers of a rendered pod as processes of this machine: their command, environment and files.

What only a cluster has is stood in for: the image by this checkout and an environment of its packages;
mounted folders by folders below one root, whose paths are put into commands and environment; fixed ports by
free ones.
"""

from __future__ import annotations

import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.helm.chart import Manifest
from tests.helm.image import CHECKOUT, entry_point


@dataclass
class Node:
    """Where pods run. `root` stands for the file system of all of them."""

    root: Path
    programs: Path
    """Folder of the image's programs."""
    manifests: Iterable[Manifest]
    secrets: Mapping[str, Mapping[str, str]]
    """What each Secret holds, by name and key."""
    ports: Mapping[int, int] = field(default_factory=dict)
    """The port to use for each that a container names."""

    def mount(self, pod: Mapping[str, Any]) -> None:
        """Makes the folders and files of the pod's volumes."""
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        for container in [*pod.get("initContainers", []), *pod["containers"]]:
            for mount in container["volumeMounts"]:
                folder = self.path(mount["mountPath"])
                folder.mkdir(parents=True, exist_ok=True)
                for name, text in self._files(volumes[mount["name"]]).items():
                    (folder / name).write_text(text)

    def path(self, inside: str) -> Path:
        return self.root / inside.lstrip("/")

    def command(self, container: Mapping[str, Any]) -> list[str]:
        """Image and chart together: the program and its arguments."""
        arguments = [self._translate(word, container) for word in container["args"]]
        return self._found([*entry_point(), *arguments])

    def environment(self, container: Mapping[str, Any]) -> dict[str, str]:
        """Exactly what the chart gives the container, and what its image would."""
        image = {"PATH": str(self.programs), "PYTHONPATH": str(CHECKOUT)}
        given: dict[str, str] = {}
        for source in container["envFrom"]:
            given |= self._data("ConfigMap", source["configMapRef"]["name"])
        given |= {variable["name"]: variable["value"] for variable in container["env"]}
        return image | {name: self._translate(value, container) for name, value in given.items()}

    def run(self, container: Mapping[str, Any], *, seconds: float) -> str:
        """Runs the container to its end; returns what it printed. Fails unless it ended well."""
        done = subprocess.run(
            self.command(container),
            env=self.environment(container),
            cwd=self.root,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
        )
        assert done.returncode == 0, f"{container['name']}: {done.stdout}"
        return done.stdout

    def start(self, container: Mapping[str, Any]) -> subprocess.Popen[bytes]:
        with (self.root / f"{container['name']}.log").open("wb") as log:
            return subprocess.Popen(
                self.command(container),
                env=self.environment(container),
                cwd=self.root,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def log(self, container: Mapping[str, Any]) -> str:
        return (self.root / f"{container['name']}.log").read_text()

    def passes(self, probe: Mapping[str, Any], container: Mapping[str, Any]) -> bool:
        """What a kubelet would find: the answer of the address, or the exit code of the command."""
        seconds = probe.get("timeoutSeconds", 1)
        if "exec" in probe:
            done = subprocess.run(
                self._found(probe["exec"]["command"]),
                env=self.environment(container),
                cwd=self.root,
                capture_output=True,
                timeout=seconds,
            )
            return done.returncode == 0
        port = next(
            item["containerPort"] for item in container["ports"] if item["name"] == probe["httpGet"]["port"]
        )
        # A kubelet calls by an address, not by a name of ours.
        url = f"http://127.0.0.2:{self.ports[port]}{probe['httpGet']['path']}"
        try:
            with urllib.request.urlopen(url, timeout=seconds) as answer:
                return bool(answer.status < 400)
        except (urllib.error.URLError, OSError):
            return False

    def _found(self, command: list[str]) -> list[str]:
        # Here, because this process would look for it on its own path.
        return [str(self.programs / command[0]), *command[1:]]

    def _translate(self, text: str, container: Mapping[str, Any]) -> str:
        folders = [mount["mountPath"] for mount in container["volumeMounts"]]
        outermost = [path for path in folders if not any(path.startswith(f"{other}/") for other in folders)]
        for path in outermost:
            text = text.replace(path, str(self.path(path)))
        for port, free in self.ports.items():
            text = text.replace(f"--port={port}", f"--port={free}")
        return text

    def _files(self, volume: Mapping[str, Any]) -> dict[str, str]:
        if "projected" in volume:
            return {
                item["path"]: self.secrets[source["secret"]["name"]][item["key"]]
                for source in volume["projected"]["sources"]
                for item in source["secret"]["items"]
            }
        if "secret" in volume:
            return dict(self.secrets[volume["secret"]["secretName"]])
        if "configMap" in volume:
            return self._data("ConfigMap", volume["configMap"]["name"])
        return {}

    def _data(self, kind: str, name: str) -> dict[str, str]:
        return next(
            dict(item["data"])
            for item in self.manifests
            if item["kind"] == kind and item["metadata"]["name"] == name
        )


def stop(process: subprocess.Popen[bytes], *, seconds: float) -> int:
    """Asks the process to end as a kubelet does; its exit code. Fails when it needs to be killed."""
    process.send_signal(signal.SIGTERM)
    try:
        return process.wait(timeout=seconds)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
