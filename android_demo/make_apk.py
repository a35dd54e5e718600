"""From the sources to an app that can be installed: ``python -m android_demo.make_apk BUNDLE...``

Maven compiles, tests and shrinks (`-Papk`); here its files and the bundles are packed, with fixed
times and in a fixed order, so that the same sources give the same bytes until they are signed.
Signed with a key of this folder's own, or with yours:

    MOVINET_EDGE_KEYSTORE           a keystore's path
    MOVINET_EDGE_KEYSTORE_PASSWORD  its password
    MOVINET_EDGE_KEY_ALIAS          which of its keys
    MOVINET_EDGE_KEY_PASSWORD       that key's password, if it is another one
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from movinet_edge.bundle import Bundle
from movinet_edge.cli.main import fail
from movinet_edge.errors import BadInput, CheckFailed
from movinet_edge.files import atomic_file, pack

PROJECT = Path(__file__).parent
TARGET = PROJECT / "app/target"
UNSIGNED = TARGET / "app-unsigned.apk"
ABI = "arm64-v8a"
AARS = ("tflite", "tflite-gpu")  # modules that have libraries for Android at hand
TOOLS = {
    "mvn": "maven",
    "keytool": "openjdk-17-jdk-headless",
    "aapt": "aapt",
    "zipalign": "zipalign",
    "apksigner": "apksigner",
}
TIME = (1980, 1, 1, 0, 0, 0)
BUNDLES = PROJECT / "build/assets/bundles"  # where the Gradle build looks, too
DEBUG_KEY = PROJECT / "build/debug.keystore"
DEBUG_PASSWORD = "android"
# Without the bundles, which are as large as their models.
MAX_MB = 8.0


def check_tools() -> None:
    """
    Raises:
        BadInput: a tool is not installed; says how to get it.
    """
    lacking = {tool: package for tool, package in TOOLS.items() if shutil.which(tool) is None}
    if lacking:
        packages = " ".join(sorted(set(lacking.values())))
        raise BadInput(
            f"{', '.join(lacking)} not installed; on Debian and Ubuntu: apt-get install {packages}"
        )


def run(*words: str | Path, **environment: str) -> str:
    """Run a tool in the project's folder; what it printed.

    Raises:
        CheckFailed: it failed.
    """
    done = subprocess.run(
        [str(word) for word in words],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | environment,
        check=False,
    )
    if done.returncode:
        print(done.stdout, file=sys.stderr)
        raise CheckFailed(f"{words[0]} failed; what it said is above")
    return done.stdout


def build(fixtures: Path | None) -> None:
    """Compile, test and shrink; without `fixtures` nothing is tested."""
    tests = "-Dmaven.test.skip" if fixtures is None else f"-Dfixtures={fixtures.resolve()}"
    said = run("mvn", "-B", "-ntp", "verify", "-Papk", tests)
    for line in said.splitlines():
        if "Tests run" in line and "Time elapsed" not in line:
            print(line.removeprefix("[INFO] "))


def members(bundles: Sequence[Path]) -> Iterator[tuple[str, bytes, int]]:
    """Names, contents and ways of compression, in the order in which they are packed."""
    with zipfile.ZipFile(TARGET / "resources.ap_") as resources:
        for info in sorted(resources.infolist(), key=lambda info: info.filename):
            yield info.filename, resources.read(info), info.compress_type
    for dex in sorted((TARGET / "dex").glob("*.dex")):
        yield dex.name, dex.read_bytes(), zipfile.ZIP_DEFLATED
    for bundle in bundles:
        yield f"assets/bundles/{bundle.name}", bundle.read_bytes(), zipfile.ZIP_STORED
    for module in AARS:
        for aar in sorted((PROJECT / module / "target/aar").glob("*.aar")):
            with zipfile.ZipFile(aar) as archive:
                for name in sorted(archive.namelist()):
                    if name.startswith(f"jni/{ABI}/") and name.endswith(".so"):
                        # stored, so that they are used where they lie
                        library = f"lib/{ABI}/{Path(name).name}"
                        yield library, archive.read(name), zipfile.ZIP_STORED


def assemble(bundles: Sequence[Path], target: Path) -> None:
    """Write the app, unsigned, and aligned as Android wants it."""
    with tempfile.TemporaryDirectory() as work:
        packed = Path(work) / "packed.apk"
        with zipfile.ZipFile(packed, "w") as apk:
            for name, content, compression in members(bundles):
                info = zipfile.ZipInfo(name, TIME)
                info.compress_type = compression
                apk.writestr(info, content)
        run("zipalign", "-f", "-p", "4", packed, target)


@dataclass(frozen=True)
class Key:
    """What to sign with: a keystore, its password, the key's name in it and its own password."""

    store: Path
    store_password: str
    alias: str
    password: str


def signing_key() -> Key:
    """The key that the environment names, else one of this folder's own.

    Raises:
        BadInput: a keystore is named that is not there, or without its password or the key's alias.
    """
    value = os.environ.get
    if not (store := value("MOVINET_EDGE_KEYSTORE")):
        return debug_key()
    password, alias = value("MOVINET_EDGE_KEYSTORE_PASSWORD"), value("MOVINET_EDGE_KEY_ALIAS")
    if not Path(store).is_file() or not password or not alias:
        raise BadInput(
            "to sign with your key set MOVINET_EDGE_KEYSTORE to a keystore's path, and "
            "MOVINET_EDGE_KEYSTORE_PASSWORD and MOVINET_EDGE_KEY_ALIAS"
        )
    return Key(Path(store).resolve(), password, alias, value("MOVINET_EDGE_KEY_PASSWORD", password))


def sign(unsigned: Path, target: Path, key: Key) -> None:
    """Write the app, signed (APK signature schemes 2 and 3)."""
    words = ("--ks", key.store, "--ks-pass", "env:STORE", "--ks-key-alias", key.alias)
    words += ("--key-pass", "env:KEY", "--out", target.resolve())
    words += ("--v1-signing-enabled", "false", "--v4-signing-enabled", "false")  # no file beside it
    run("apksigner", "sign", *words, unsigned, STORE=key.store_password, KEY=key.password)


def debug_key() -> Key:
    """Made at the first call and kept: an app is updated only by one of the same key."""
    if not DEBUG_KEY.exists():
        DEBUG_KEY.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=DEBUG_KEY.parent) as folder:
            made = Path(folder) / DEBUG_KEY.name
            words = ("-genkeypair", "-alias", "debug", "-dname", "CN=movinet-edge debug")
            words += ("-keyalg", "RSA", "-keysize", "2048", "-validity", "10000")
            words += ("-storepass", DEBUG_PASSWORD, "-keypass", DEBUG_PASSWORD)
            run("keytool", *words, "-keystore", made)
            made.rename(DEBUG_KEY)
    return Key(DEBUG_KEY, DEBUG_PASSWORD, "debug", DEBUG_PASSWORD)


def as_zips(bundles: Sequence[Path]) -> list[Path]:
    """The bundles, checked, in `BUNDLES` as zips of the names that the app shows.

    Raises:
        BadInput: one is no sound bundle, or two have one name.
    """
    names = [f"{path.resolve().name.removesuffix('.zip')}.zip" for path in bundles]
    if len(set(names)) < len(names):
        raise BadInput(f"bundles need names of their own, not {', '.join(names)}; rename one")
    for path in bundles:
        Bundle(path).check_all()
    BUNDLES.parent.mkdir(parents=True, exist_ok=True)
    # Beside what is there already, for a bundle may be that.
    with tempfile.TemporaryDirectory(dir=BUNDLES.parent) as work:
        made = Path(work) / BUNDLES.name
        made.mkdir()
        for name, path in zip(names, bundles, strict=True):
            if path.is_dir():
                pack(path, made / name)
            else:
                shutil.copyfile(path, made / name)
        shutil.rmtree(BUNDLES, ignore_errors=True)
        made.rename(BUNDLES)
    return [BUNDLES / name for name in names]


def describe(apk: Path, bundles: Sequence[Path]) -> None:
    """Print what was made.

    Raises:
        CheckFailed: it is larger than the app may be, or its signature does not hold.
    """
    print(run("apksigner", "verify", "--verbose", apk.resolve()), end="")
    print(run("aapt", "dump", "badging", apk.resolve()), end="")
    total, inside = apk.stat().st_size, sum(bundle.stat().st_size for bundle in bundles)
    size = (total - inside) / 1e6
    print(f"{apk.resolve()}: {total / 1e6:.2f} MB, {size:.2f} MB without bundles")
    if size > MAX_MB:
        raise CheckFailed(f"the app is {size:.2f} MB large, more than {MAX_MB:.0f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description="Build the Android app.")
    parser.add_argument("bundles", nargs="+", type=Path, metavar="BUNDLE", help="folder or zip")
    parser.add_argument("--out", type=Path, required=True, metavar="APK")
    parser.add_argument("--fixtures", type=Path, help="what the tests read; default: no tests")
    how = parser.parse_args()
    check_tools()
    key, bundles = signing_key(), as_zips(how.bundles)
    build(how.fixtures)
    assemble(bundles, UNSIGNED)
    with atomic_file(how.out, parents=True) as signed:
        sign(UNSIGNED, signed, key)
    describe(how.out, bundles)


if __name__ == "__main__":
    try:
        main()
    except (BadInput, CheckFailed) as error:
        sys.exit(fail(str(error), 2 if isinstance(error, BadInput) else 1))
