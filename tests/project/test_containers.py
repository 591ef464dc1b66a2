"""Images are described so that what runs is known, harmless and importable."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import packages_distributions
from importlib.util import find_spec
from pathlib import Path

import pytest
from dockerfile_parse import DockerfileParser
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from deployments.clusters.images import find_image
from deployments.reconcile.manifests import USER_ID
from marketplace.hardware.models import AcceleratorFamily

ROOT = Path(__file__).parents[2]
WORKSPACE = ROOT / "runtimes/containers/workspace.Containerfile"
RUNTIMES = sorted(set((ROOT / "runtimes/containers").glob("*.Containerfile")) - {WORKSPACE})
FILES = [ROOT / "Containerfile", *RUNTIMES, WORKSPACE]
by_name = pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)


@dataclass
class Stage:
    """One stage of a Containerfile, with what it has from the stage that it begins with."""

    base: str
    name: str
    user: str = ""
    entry_point: list[str] = field(default_factory=list)


def read(file: Path) -> tuple[list[Stage], list[tuple[str, str]], dict[str, str]]:
    """Stages, all instructions, and the defaults of arguments that come before the first stage."""
    with file.open("rb") as content:
        lines = [(line["instruction"], line["value"]) for line in DockerfileParser(fileobj=content).structure]
    stages: list[Stage] = []
    arguments: dict[str, str] = {}
    for instruction, value in lines:
        if instruction == "FROM":
            base, _, name = value.partition(" AS ")
            before = next((stage for stage in stages if stage.name == base), Stage(base=base, name=""))
            stages.append(Stage(base, name.strip(), before.user, before.entry_point))
        elif instruction == "ARG" and not stages:
            key, _, default = value.partition("=")
            arguments[key] = default
        elif instruction == "USER":
            stages[-1].user = value
        elif instruction == "ENTRYPOINT":
            stages[-1].entry_point = json.loads(value)
    return stages, lines, arguments


def results(file: Path) -> list[Stage]:
    """The stages that images are made of: those that no other begins with or copies from, and the last."""
    return [stage for stage in read(file)[0] if stage.entry_point]


@by_name
def test_the_linter_finds_nothing(file: Path) -> None:
    hadolint = shutil.which("hadolint", path=Path(sys.executable).parent)
    assert hadolint, "hadolint is not installed: make install"
    done = subprocess.run([hadolint, file], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("", 0)


@by_name
def test_every_base_is_pinned_to_a_version_and_its_digest_can_be_given(file: Path) -> None:
    stages, _, arguments = read(file)
    own = {stage.name for stage in stages}
    for stage in stages:
        if stage.base in own:
            continue
        argument = re.fullmatch(r"\$\{(\w+)\}", stage.base)
        assert argument, f"{stage.base} cannot be replaced by one with a digest"
        assert re.fullmatch(r"[a-z0-9./-]+:[0-9]+\.[0-9]+\.[0-9]+[-a-z0-9.]*", arguments[argument[1]]), (
            argument[1]
        )


@by_name
def test_nothing_runs_as_root(file: Path) -> None:
    assert {stage.user for stage in results(file)} == {f"{USER_ID}:{USER_ID}"}


@by_name
def test_everything_that_is_copied_is_there_and_not_ignored(file: Path) -> None:
    allowed = [
        line.removeprefix("!").removesuffix("/**")
        for line in (ROOT / ".containerignore").read_text().splitlines()
        if line.startswith("!")
    ]
    for instruction, value in read(file)[1]:
        if instruction != "COPY" or value.startswith("--from="):
            continue
        *sources, _ = value.split()
        for source in sources:
            assert (ROOT / source).exists(), source
            assert any(source == path or source.startswith(f"{path}/") for path in allowed), source


@by_name
def test_every_entry_point_can_be_imported(file: Path) -> None:
    for stage in results(file):
        program, *arguments = stage.entry_point
        assert program == "python"
        if arguments:
            flag, module = arguments
            assert flag == "-m"
            assert find_spec(module) and find_spec(f"{module}.__main__"), module


@pytest.mark.parametrize("file", RUNTIMES, ids=lambda file: file.name)
def test_a_runtime_serves_and_its_target_tune_tunes(file: Path) -> None:
    stages = {stage.name: stage.entry_point for stage in read(file)[0]}
    assert stages["tune"] == ["python", "-m", "runtimes.tune"]
    assert read(file)[0][-1].entry_point == ["python", "-m", "runtimes.server"]


def test_there_is_a_file_for_each_family_and_each_image_of_the_catalog() -> None:
    families = {file.name.partition(".")[0] for file in RUNTIMES}
    assert families == set(AcceleratorFamily.values)
    engines = tomllib.loads((ROOT / "marketplace/catalog/data/engines.toml").read_text())["engine"]
    images = {image["image"].partition(":")[0] for engine in engines for image in engine["image"]}
    assert images <= {
        f"marketplace/{target}-{family}" for target in ("runtime", "tune") for family in families
    }


def test_a_workspace_is_made_on_every_framework_that_says_so() -> None:
    frameworks = tomllib.loads((ROOT / "marketplace/catalog/data/frameworks.toml").read_text())["framework"]
    offered = [framework for framework in frameworks if framework.get("workspace_image")]
    names = {framework["workspace_image"] for framework in offered}
    bases = {(framework["workspace_image"], framework["image"]) for framework in offered}
    assert len(bases) == len(names), "one image cannot be made on two bases"
    assert read(WORKSPACE)[2]["FRAMEWORK_IMAGE"] in {framework["image"] for framework in offered}
    assert {find_image(name).command[1:] for name in names} == {("-m", "runtimes.workspace")}


def test_a_workspace_image_has_all_that_its_server_imports() -> None:
    needed = set(imports_of("runtimes/workspace")) - sys.stdlib_module_names - {"runtimes"}
    assert needed == {"jupyter_server"}  # part of jupyterlab, which workspace-requirements.txt names


def imports_of(*folders: str, besides: str = "none") -> Iterator[str]:
    """Top-level names of everything that the code there imports, but not for type checks alone."""
    for folder in folders:
        for file in (ROOT / folder).rglob("*.py"):
            if file.is_relative_to(ROOT / besides):
                continue
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Import):
                    yield from (alias.name.partition(".")[0] for alias in node.names)
                elif isinstance(node, ast.ImportFrom) and node.module:
                    yield node.module.partition(".")[0]


def test_a_runtime_image_has_all_that_runtimes_import() -> None:
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"][
        "runtime"
    ]
    installed = {canonicalize_name(Requirement(text).name) for text in extra}
    known = packages_distributions()
    missing = {
        name
        for name in set(imports_of("runtimes", besides="runtimes/workspace"))
        - sys.stdlib_module_names
        # PopTorch comes with Graphcore's SDK, for the worker that runs in its Python. The trainer of digits
        # is for machines without a model hub, and has an extra of its own.
        - {"runtimes", "poptorch", "sklearn"}
        if not {canonicalize_name(item) for item in known.get(name, [name])} & installed
    }
    assert missing == set()


def test_the_build_reads_requirements_from_the_project_file() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for arguments, wanted in (
        ([], project["dependencies"]),
        (["runtime"], project["optional-dependencies"]["runtime"]),
    ):
        command = [sys.executable, ROOT / "requirements/read_extra.py", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout.splitlines() == wanted
