"""What can be said of the container files without building anything."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from sp_proxy.settings.environment import environment_layer
from sp_proxy.settings.load import load

ROOT = Path(__file__).parent.parent.parent
SCHEMA = json.loads((Path(__file__).parent / "schemas" / "compose-spec.json").read_text("utf-8"))
VALIDATOR = jsonschema.Draft201909Validator(SCHEMA)
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yaml").read_text("utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
SHOP = ("orders", "inventory", "payment")


def test_hadolint_finds_nothing_in_the_dockerfile():
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, "Dockerfile"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_hadolint_would_find_something():
    hadolint = Path(sys.executable).with_name("hadolint")
    text = "FROM debian\nRUN cd / && apt-get install curl\n"
    done = subprocess.run([hadolint, "-"], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "DL3006" in done.stdout


def test_the_build_context_is_what_the_dockerfile_copies():
    """What is not listed is not sent; what is copied is listed."""
    ignored = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    listed = {line[1:] for line in ignored if line.startswith("!")}
    lines = (ROOT / "Dockerfile").read_text("utf-8").splitlines()
    copies = [line.split()[1:] for line in lines if line.startswith("COPY") and "--from" not in line]
    copied = {word.removeprefix("./") for words in copies for word in words[:-1] if not word.startswith("--")}
    assert copied == listed
    assert all((ROOT / name).exists() for name in listed)
    assert "*" in ignored


def test_the_compose_file_is_one_by_its_published_schema():
    VALIDATOR.validate(COMPOSE)


def test_a_wrong_key_in_it_would_be_seen():
    service = {**SERVICES["orders"], "entry_point": ["x"]}
    with pytest.raises(jsonschema.ValidationError, match="entry_point"):
        VALIDATOR.validate({**COMPOSE, "services": {"orders": service}})


def test_every_service_of_the_demo_has_its_rules_and_its_sidecar():
    assert set(SERVICES) == {
        "backend",
        "customers",
        *(f"{name}{part}" for name in SHOP for part in ("", "-rules", "-sidecar")),
    }
    for name in SHOP:
        rules, sidecar = SERVICES[f"{name}-rules"], SERVICES[f"{name}-sidecar"]
        assert rules["network_mode"] == sidecar["network_mode"] == f"service:{name}"
        assert sidecar["depends_on"][f"{name}-rules"] == {"condition": "service_completed_successfully"}
        assert rules["cap_add"] == ["NET_ADMIN", "NET_RAW"]
        assert SERVICES[name]["user"] == "1000:1000"


def test_nothing_in_it_has_a_privilege_but_those_that_write_the_rules():
    for name, service in SERVICES.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["read_only"] is True, name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert bool(service.get("cap_add")) is name.endswith("-rules")
        assert service.get("user", "1338:1338") != "0:0" or name.endswith("-rules")


def test_only_the_page_is_published_and_only_on_this_host():
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published == {"backend": ["127.0.0.1:4318:4318"]}


def test_the_variables_in_it_are_settings():
    for name, service in SERVICES.items():
        variables = {
            key: str(value) for key, value in service.get("environment", {}).items() if key.startswith("SP_PROXY_")
        }
        environment_layer(variables)
        load(None, variables, {}, sends=name.endswith("-sidecar"))
