"""The files of the kustomize components are what the generator writes."""

import sys
from pathlib import Path

from sp_proxy.sidecar.component import FORMS, files, main

COMPONENTS = Path(__file__).parent.parent.parent / "deploy" / "kubernetes" / "components"


def test_the_files_are_up_to_date():
    found = {
        str(path.relative_to(COMPONENTS)): path.read_text("utf-8")
        for form in FORMS
        for path in (COMPONENTS / form).iterdir()
    }
    assert found == files(), f"{Path(sys.executable).name} -m sp_proxy.sidecar.component deploy/kubernetes/components"


def test_they_are_written(tmp_path: Path):
    main(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(FORMS)
    assert (tmp_path / "istio" / "kustomization.yaml").read_text("utf-8") == files()["istio/kustomization.yaml"]
