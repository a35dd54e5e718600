"""The Android app as a file: what is in it, that it is the same twice, who signed it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from android_demo import make_apk
from movinet_edge.errors import BadInput

ROOT = Path(__file__).parents[1]
PROJECT = ROOT / "android_demo"
VARIABLES = ("KEYSTORE", "KEYSTORE_PASSWORD", "KEY_ALIAS", "KEY_PASSWORD")
OLDEST = "8.0.0_r4-robolectric-r1"  # API 26, the manifest's minSdkVersion
MISSING = re.compile(r"Missing (.*?) \(referenced from: (.*)\)$", re.MULTILINE)
needs_tools = pytest.mark.skipif(
    any(shutil.which(tool) is None for tool in make_apk.TOOLS),
    reason="Maven or Debian's tools for Android are not installed",
)


@dataclass(frozen=True)
class Built:
    """An app, what it was before it was signed, and what was said."""

    apk: Path
    unsigned: Path
    said: str


def built(root: Path, bundle: Path, target: Path) -> Built:
    words = [sys.executable, "-m", "android_demo.make_apk", str(bundle), "--out", str(target)]
    paths = os.pathsep.join((str(root), str(ROOT)))
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MOVINET_EDGE_KEY")}
    done = subprocess.run(
        words,
        cwd=root,
        capture_output=True,
        text=True,
        env=environment | {"PYTHONPATH": paths},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-6000:]
    return Built(target, root / "android_demo/app/target/app-unsigned.apk", done.stdout)


@pytest.fixture(scope="module")
def app(small_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Built:
    return built(ROOT, small_bundle, tmp_path_factory.mktemp("apk") / "app.apk")


@needs_tools
@pytest.mark.android
@pytest.mark.timeout(1800)
def test_what_is_inside(app: Built, small_bundle: Path) -> None:
    with zipfile.ZipFile(app.apk) as apk:
        names = set(apk.namelist())
        dex = apk.read("classes.dex")
        stored = {i.filename for i in apk.infolist() if i.compress_type == zipfile.ZIP_STORED}
    libraries = {
        f"lib/arm64-v8a/lib{name}.so" for name in ("tensorflowlite_jni", "tensorflowlite_gpu_jni")
    }
    assert libraries == {name for name in names if name.endswith(".so")}
    assert libraries | {"resources.arsc"} <= stored
    assert f"assets/bundles/{small_bundle.name}.zip" in names
    # what the manifest, adb and native code name has kept its name
    for name in ("app/BenchmarkActivity", "app/live/LiveActivity"):
        assert f"Lio/movinetedge/{name};".encode() in dex
    assert b"Lorg/tensorflow/lite/NativeInterpreterWrapper;" in dex
    assert b"Lorg/robolectric" not in dex
    assert "Verified using v2 scheme (APK Signature Scheme v2): true" in app.said
    assert "Verified using v3 scheme (APK Signature Scheme v3): true" in app.said
    for words in (
        "package: name='io.movinetedge.app'",
        "sdkVersion:'26'",
        "native-code: 'arm64-v8a'",
    ):
        assert words in app.said
    assert app.said.splitlines()[-1].startswith(f"{app.apk}: ")


def jar(coordinate: str, folder: Path) -> Path:
    """A jar of Maven's repositories."""
    words = ("-B", "-ntp", "-q", "-N", "dependency:copy", f"-Dartifact={coordinate}")
    make_apk.run("mvn", *words, f"-DoutputDirectory={folder}")
    _, name, version = coordinate.split(":")
    return folder / f"{name}-{version}.jar"


# What is called where `SDK_INT` says that it is there, and the only place that may.
GUARDED = "io.movinetedge.app.live.Thermal"
NEWER = {
    "class android.os.PowerManager$OnThermalStatusChangedListener",
    "int android.os.PowerManager.getCurrentThermalStatus()",
    *(
        f"void android.os.PowerManager.{what}ThermalStatusListener"
        "(android.os.PowerManager$OnThermalStatusChangedListener)"
        for what in ("add", "remove")
    ),
}


@needs_tools
@pytest.mark.android
@pytest.mark.timeout(1800)
def test_the_oldest_android_has_what_it_calls(app: Built, tmp_path: Path) -> None:
    """Of Android 8's framework (100 MB); Java's library is the JDK's."""
    framework = jar(f"org.robolectric:android-all:{OLDEST}", tmp_path)
    version = re.search(r"<r8.version>(.*)</r8.version>", (PROJECT / "pom.xml").read_text())
    assert version is not None
    r8 = jar(f"com.android.tools:r8:{version[1]}", tmp_path)
    java = shutil.which("java")
    assert java is not None
    with zipfile.ZipFile(app.apk) as apk:
        apk.extract("classes.dex", tmp_path)
    words = [java, "-cp", r8, "com.android.tools.r8.tracereferences.TraceReferences", "--check"]
    words += ["--lib", framework, "--lib", Path(java).resolve().parents[1]]
    words += ["--source", tmp_path / "classes.dex"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    found = MISSING.findall(done.stdout + done.stderr)
    assert {what.removeprefix("method ") for what, _ in found} == NEWER, done.stderr[:4000]
    assert all(f" {GUARDED}$" in f" {by}" for _, by in found), found


@needs_tools
@pytest.mark.android
@pytest.mark.timeout(1800)
def test_twice_the_same(app: Built, small_bundle: Path, tmp_path: Path) -> None:
    """Built again, elsewhere and from nothing."""
    left = shutil.ignore_patterns("target", "build")
    shutil.copytree(PROJECT, tmp_path / "android_demo", ignore=left)
    again = built(tmp_path, small_bundle, tmp_path / "again.apk")
    assert again.unsigned.read_bytes() == app.unsigned.read_bytes()


@needs_tools
@pytest.mark.android
@pytest.mark.timeout(1800)
def test_a_key_of_ones_own(app: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = tmp_path / "own.keystore"
    words = ["keytool", "-genkeypair", "-alias", "mine", "-dname", "CN=somebody", "-keyalg", "RSA"]
    words += ["-storepass", "a secret", "-keystore", str(store)]
    subprocess.run(words, check=True, capture_output=True)
    for name, value in zip(VARIABLES, (str(store), "a secret", "mine"), strict=False):
        monkeypatch.setenv(f"MOVINET_EDGE_{name}", value)
    make_apk.sign(app.unsigned, tmp_path / "own.apk", make_apk.signing_key())
    assert "CN=somebody" in make_apk.run(
        "apksigner", "verify", "--print-certs", tmp_path / "own.apk"
    )


def test_half_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOVINET_EDGE_KEYSTORE", str(tmp_path / "nothing"))
    with pytest.raises(BadInput, match="set MOVINET_EDGE_KEYSTORE to a keystore's path"):
        make_apk.signing_key()


def test_tools_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BadInput, match=r"mvn.* not installed; .*apt-get install aapt apksigner"):
        make_apk.check_tools()


def test_two_bundles_of_one_name(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="need names of their own"):
        make_apk.as_zips([tmp_path / "a/x.zip", tmp_path / "b/x"])


def test_a_bundle_may_lie_where_the_build_puts_its_own(
    small_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(make_apk, "BUNDLES", tmp_path / "bundles")
    made = make_apk.as_zips([small_bundle])
    content = made[0].read_bytes()
    assert make_apk.as_zips(made) == made
    assert made[0].read_bytes() == content
    assert list(tmp_path.iterdir()) == [tmp_path / "bundles"]
