"""`deploy/kafka/kafka.py` where something is missing; what it does where nothing is, the integration tests show."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.deploy.manifests import ROOT
from tests.support.brokers import kafka


class TestKafkaFromJars:
    @pytest.fixture
    def programs(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """The only folder on PATH."""
        folder = tmp_path / "bin"
        folder.mkdir()
        monkeypatch.setenv("PATH", str(folder))
        monkeypatch.delenv("JAVA_HOME", raising=False)
        return folder

    def program(self, path: Path, script: str) -> None:
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def test_missing_java_is_one_clear_error(self, programs: Path) -> None:
        with pytest.raises(kafka.KafkaError, match="Java is missing: install a JRE 17 or newer"):
            kafka.find_java()

    @pytest.mark.parametrize("version", ["1.8.0_392", "11.0.21"])
    def test_java_that_is_too_old_is_one_clear_error(self, programs: Path, version: str) -> None:
        self.program(programs / "java", f"""echo 'openjdk version "{version}" 2023-10-17' >&2""")
        with pytest.raises(kafka.KafkaError, match="Java is too old: Kafka needs 17 or newer"):
            kafka.find_java()

    def test_java_home_comes_before_the_path(
        self, programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        home = tmp_path / "jdk"
        (home / "bin").mkdir(parents=True)
        self.program(home / "bin" / "java", """echo 'openjdk version "21.0.1" 2023-10-17' >&2""")
        self.program(programs / "java", """echo 'openjdk version "17.0.1" 2023-10-17' >&2""")
        assert kafka.find_java() == str(programs / "java")
        monkeypatch.setenv("JAVA_HOME", str(home))
        assert kafka.find_java() == str(home / "bin" / "java")

    @pytest.fixture
    def empty(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A checkout that has fetched nothing yet."""
        shutil.copy(ROOT / "deploy" / "kafka" / "pom.xml", tmp_path)
        monkeypatch.setattr(kafka, "HERE", tmp_path)
        return tmp_path

    def test_missing_maven_is_one_clear_error(self, programs: Path, empty: Path) -> None:
        with pytest.raises(kafka.KafkaError, match="Maven is missing"):
            kafka.fetch_jars()

    def test_a_fetch_that_failed_is_tried_again(self, programs: Path, empty: Path) -> None:
        into = (
            """for word; do case $word in -DoutputDirectory=*) folder=${word#*=};; esac; done; /bin/mkdir -p $folder"""
        )
        self.program(programs / "mvn", f"{into}; : > $folder/half.jar; echo '[ERROR] no such version'; exit 1")
        with pytest.raises(kafka.KafkaError, match=r"Maven cannot fetch Kafka's jars: \[ERROR\] no such version"):
            kafka.fetch_jars()
        self.program(programs / "mvn", f"{into}; : > $folder/whole.jar")
        libs = kafka.fetch_jars()
        assert [path.name for path in libs.iterdir()] == ["whole.jar"]
        assert [path.name for path in libs.parent.iterdir()] == [libs.name], "nothing half done is left"
        (programs / "mvn").unlink()
        assert kafka.fetch_jars() == libs, "fetched once"

    def test_several_that_want_them_fetch_once_and_say_so_once(
        self, programs: Path, empty: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The processes of pytest-xdist on a fresh clone."""
        into = """for word; do case $word in -DoutputDirectory=*) folder=${word#*=};; esac; done"""
        self.program(programs / "mvn", f"{into}; /bin/mkdir -p $folder; echo >> {empty}/calls")
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda _: kafka.fetch_jars(), range(4)))
        assert set(found) == {kafka.jars()}
        assert (empty / "calls").read_text() == "\n"
        assert capsys.readouterr().err == "Fetching Kafka's jars through Maven (once, 44 MB)\n"

    def test_another_version_is_another_fetch(self, programs: Path, empty: Path) -> None:
        before = kafka.jars()
        (empty / "pom.xml").write_text((empty / "pom.xml").read_text() + "\n")
        assert kafka.jars() != before

    def test_a_number_left_by_a_crash_is_not_taken_for_kafka(self, tmp_path: Path) -> None:
        (tmp_path / "kafka.pid").write_text(str(os.getpid()))
        assert kafka.running_pid(tmp_path) is None
        assert not kafka.stop_detached(tmp_path)
