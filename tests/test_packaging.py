"""What is shipped, and what contributors start from: one version, a whole wheel, pinned tools, files that CI reads."""

from __future__ import annotations

import email
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from jsonschema import Draft202012Validator, validators

import streamer
from streamer.errors import MissingExtra

ROOT = Path(__file__).parents[1]
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT: dict[str, Any] = PYPROJECT["project"]
OTHER_VERSION = "9.8.7"


def canonical(requirement: str) -> str:
    """`PyYAML>=6.0` and `validate_pyproject[all]` as pip compares names."""
    (name,) = re.findall(r"^[\w.-]+", requirement)
    return re.sub(r"[-_.]+", "-", name).lower()


def test_code_that_was_never_installed_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", nothing)
    assert streamer.__version__ == "0+unknown"


def test_importing_streamer_loads_nothing_to_find_its_version() -> None:
    code = "import sys; before = set(sys.modules); import streamer; print(*set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "streamer" in loaded
    assert not loaded & {"importlib.metadata", "email", "numpy", "streamer.service"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    """Built without fetching the build backend, from a copy whose pyproject.toml has OTHER_VERSION."""
    (backend,) = PYPROJECT["build-system"]["requires"]
    oldest = int(backend.partition(">=")[2])
    if int(importlib.metadata.version("setuptools").partition(".")[0]) < oldest:
        pytest.skip(f"needs {backend}; make brings it")
    folder = tmp_path_factory.mktemp("source")
    for name in ("README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    text = (ROOT / "pyproject.toml").read_text()
    (folder / "pyproject.toml").write_text(text.replace(f'"{PROJECT["version"]}"', f'"{OTHER_VERSION}"'))
    shutil.copytree(ROOT / "streamer", folder / "streamer", ignore=shutil.ignore_patterns("__pycache__"))
    build = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", build, "dist"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (path,) = (folder / "dist").iterdir()
    with zipfile.ZipFile(path) as archive:
        yield archive


@pytest.mark.slow
def test_the_wheel_holds_every_file_of_the_package(wheel: zipfile.ZipFile) -> None:
    folder = ROOT / "streamer"
    files = {
        str(path.relative_to(ROOT))
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".md"
    }
    assert {"streamer/py.typed", "streamer/http/page/index.html"} <= files
    assert {name for name in wheel.namelist() if ".dist-info/" not in name} == files


def test_the_wheel_says_what_it_is(wheel: zipfile.ZipFile) -> None:
    """First hour B2."""
    info = f"embedding_streamer-{OTHER_VERSION}.dist-info"
    metadata = email.message_from_bytes(wheel.read(f"{info}/METADATA"))
    assert metadata["Name"] == "embedding-streamer", "`streamer` on the package index is somebody else's"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert wheel.read(f"{info}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
    extras = metadata.get_all("Provides-Extra")
    assert sorted(extras or ()) == sorted(PROJECT["optional-dependencies"])
    assert not {"dev", "bench"} & set(extras or ()), "tools of contributors are no feature for users"
    assert b"streamer = streamer.cli:main" in wheel.read(f"{info}/entry_points.txt")


@pytest.mark.slow
def test_the_version_stands_in_pyproject_alone(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    environ = {**os.environ, "PYTHONPATH": str(wheel.filename)}
    command = [sys.executable, "-m", "streamer", "--version"]
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60)
    assert done.stdout == f"streamer {OTHER_VERSION}\n", done.stderr


def test_what_make_installs_is_pinned() -> None:
    pins = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", pin) for pin in pins)
    assert pins == sorted(pins, key=str.lower)
    extras = {
        name: needs for name, needs in PROJECT["optional-dependencies"].items() if name != "sentence-transformers"
    }
    wanted = {"pip"}
    for needs in (PROJECT["dependencies"], *extras.values(), *PYPROJECT["dependency-groups"].values()):
        wanted |= {canonical(need) for need in needs}
    assert wanted - {canonical(pin) for pin in pins} == {PROJECT["name"]}, "an extra that brings another one"


def test_no_page_or_message_installs_what_is_somebody_elses() -> None:
    """First hour B2."""
    folders = ("streamer", "docs", "deploy", "examples", "tests", ".github")
    texts = [path for name in folders for path in (ROOT / name).rglob("*") if path.suffix in {".md", ".py", ".yml"}]
    texts += [
        *ROOT.glob("*.md"),
        *ROOT.glob("*.toml"),
        *ROOT.glob("*.yml"),
        ROOT / "Makefile",
        ROOT / "constraints.txt",
    ]
    for path in texts:
        assert not re.search(r"pip install (-\S+ )*['\"]?streamer\b", path.read_text()), path


@pytest.mark.parametrize("extra", sorted(PROJECT["optional-dependencies"]))
def test_the_error_for_a_missing_extra_installs_ours(extra: str) -> None:
    """First hour B2."""
    said = str(MissingExtra("a package", extra))
    assert f"pip install 'embedding-streamer[{extra}]'" in said
    assert f"-e '.[{extra}]'" in said


def test_every_extra_that_a_page_or_message_installs_is_one() -> None:
    """First hour B2."""
    paths = [*ROOT.glob("*.md"), *(path for name in ("docs", "streamer") for path in (ROOT / name).rglob("*.[mp][dy]"))]
    named = {
        extra.strip()
        for path in paths
        for found in re.findall(r"pip install[^\n`]*?\[([\w, -]+)\]", path.read_text())
        for extra in found.split(",")
    }
    assert {"openai", "onnx"} <= named
    assert named <= set(PROJECT["optional-dependencies"])


class TestMakefile:
    TEXT = (ROOT / "Makefile").read_text()

    def make(self, *arguments: str) -> str:
        make = shutil.which("make")
        if make is None:
            pytest.skip("make is not installed")
        # Under `make test` this is a make within a make, which would say so.
        command = [make, "--no-print-directory", *arguments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    def test_every_target_is_explained(self) -> None:
        (phony,) = re.findall(r"^\.PHONY: (.*)$", self.TEXT, re.MULTILINE)
        assert [line.split()[1] for line in self.make("help").splitlines()] == phony.split()
        targets = set(re.findall(r"^([a-z-]+):", self.TEXT, re.MULTILINE))
        assert targets == set(phony.split())

    def test_make_alone_shows_them_and_does_nothing(self) -> None:
        assert self.make() == self.make("help")

    def test_the_demo_brings_no_tools_of_contributors(self) -> None:
        """First hour R9."""
        commands = self.make("--dry-run", "--always-make", "demo")
        assert "'.[demo]'" in commands
        assert "--group" not in commands


def schema(name: str) -> Any:
    found = importlib.util.find_spec("check_jsonschema")
    if found is None or found.origin is None:
        pytest.skip("check-jsonschema, which carries the schemas, is not installed")
    return orjson.loads((Path(found.origin).parent / "builtin_schemas" / "vendor" / f"{name}.json").read_bytes())


@pytest.mark.parametrize(
    ("pattern", "name"), [("workflows/*.yml", "github-workflows"), ("ISSUE_TEMPLATE/*.yml", "github-issue-forms")]
)
def test_what_github_reads_fits_its_schema(pattern: str, name: str) -> None:
    paths = list((ROOT / ".github").glob(pattern))
    assert paths
    published = schema(name)
    validator = validators.validator_for(published, default=Draft202012Validator)(published)
    for path in paths:
        document = yaml.safe_load(path.read_text())
        if True in document:
            document["on"] = document.pop(True)  # YAML 1.1 takes the word for a truth value
        errors = list(validator.iter_errors(document))
        assert not errors, [f"{path.name} {error.json_path}: {error.message}" for error in errors]


def test_hooks_run_the_tools_of_make_and_fetch_nothing() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [repository["repo"] for repository in hooks] == ["local"]
    style = re.search(r"^style:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert style is not None
    tools = re.findall(r"\$\(BIN\)/([\w-]+)", style[1])
    assert [Path(hook["entry"].split()[0]).name for hook in hooks[0]["hooks"]] == tools
    assert all(hook["language"] == "system" for hook in hooks[0]["hooks"])
