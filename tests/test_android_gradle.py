"""The Gradle project beside the Maven one: of what both name, the same versions."""

from __future__ import annotations

import re
import tomllib
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1] / "android_demo"
POM = "{http://maven.apache.org/POM/4.0.0}"
ANDROID = "{http://schemas.android.com/apk/res/android}"
SHARED = ("kotlin", "serialization", "onnxruntime")


@pytest.fixture(scope="module")
def catalogue() -> dict[str, dict[str, object]]:
    return tomllib.loads((PROJECT / "gradle/libs.versions.toml").read_text())


@pytest.fixture(scope="module")
def pom() -> ET.Element:
    return ET.parse(PROJECT / "pom.xml").getroot()


@pytest.fixture(scope="module")
def script() -> str:
    return (PROJECT / "app/build.gradle.kts").read_text()


@pytest.mark.parametrize("name", SHARED)
def test_libraries_are_the_same(
    name: str, catalogue: dict[str, dict[str, object]], pom: ET.Element
) -> None:
    found = pom.find(f"{POM}properties/{POM}{name}.version")
    assert found is not None
    assert catalogue["versions"][name] == found.text


def test_every_alias_is_there(catalogue: dict[str, dict[str, object]], script: str) -> None:
    names = {name.replace("-", ".") for name in catalogue["libraries"]}
    assert set(re.findall(r"implementation\(libs\.([\w.]+)\)", script)) == names
    plugins = {f"plugins.{name.replace('-', '.')}" for name in catalogue["plugins"]}
    assert set(re.findall(r"alias\(libs\.([\w.]+)\)", script)) == plugins


def test_the_app_is_the_same(pom: ET.Element, script: str) -> None:
    manifest = ET.parse(PROJECT / "app/src/main/AndroidManifest.xml").getroot()
    sdk = manifest.find("uses-sdk")
    assert sdk is not None
    assert f'namespace = "{manifest.attrib["package"]}"' in script
    assert f"minSdk = {sdk.attrib[f'{ANDROID}minSdkVersion']}" in script
    assert f"targetSdk = {sdk.attrib[f'{ANDROID}targetSdkVersion']}" in script
    assert f"versionCode = {manifest.attrib[f'{ANDROID}versionCode']}" in script
    assert f'versionName = "{manifest.attrib[f"{ANDROID}versionName"]}"' in script
    version = pom.find(f"{POM}version")
    assert version is not None
    assert manifest.attrib[f"{ANDROID}versionName"] == version.text
    for folder in re.findall(r'srcDir\("(\S+/kotlin)"\)', script):
        assert (PROJECT / "app" / folder).is_dir()
    assert 'abiFilters += listOf("arm64-v8a")' in script
