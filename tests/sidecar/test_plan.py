"""The image's tag is the version, wherever it is written."""

import re
from pathlib import Path

import yaml

from sp_proxy import __version__
from sp_proxy.settings.model import SettingsModel
from sp_proxy.sidecar.plan import ADMIN_PORT, IMAGE

ROOT = Path(__file__).parent.parent.parent


def test_the_image_is_of_this_version_everywhere():
    assert f"sp-proxy:{__version__}" == IMAGE
    files = [ROOT / "Dockerfile", ROOT / "docker-compose.yaml", *(ROOT / "deploy" / "kubernetes").rglob("*.yaml")]
    named = {(file.name, tag) for file in files for tag in re.findall(r"sp-proxy:(\d[\w.]*)", file.read_text("utf-8"))}
    assert {tag for _, tag in named} == {__version__}
    assert {"Dockerfile", "docker-compose.yaml", "shop.yaml"} <= {name for name, _ in named}
    assert f"ARG VERSION={__version__}\n" in (ROOT / "Dockerfile").read_text("utf-8")
    for overlay in ("standalone", "istio"):
        text = (ROOT / "deploy" / "kubernetes" / "overlays" / overlay / "kustomization.yaml").read_text("utf-8")
        assert yaml.safe_load(text)["images"] == [{"name": "sp-proxy", "newName": "sp-proxy", "newTag": __version__}]


def test_the_admin_port_is_the_settings_own():
    assert SettingsModel.model_validate({}).admin.listen.port == ADMIN_PORT
