"""What the nightly run alone plays exists, and so does its proof in every run."""

import pytest
from nightly import CHAOS, IF_CHANGED, LEFT_OUT, is_left_out

import parts
from chaos.scenarios import scenarios

SCENARIOS = {f"{CHAOS}[{scenario.name}]" for scenario in scenarios(long=False)}


def exists(name: str) -> bool:
    file, _, test = name.partition("[")[0].partition("::")
    path = parts.ROOT / file
    return path.is_file() and (not test or f"def {test}(" in path.read_text())


@pytest.mark.parametrize("name", LEFT_OUT)
def test_what_is_left_out_exists(name: str) -> None:
    assert exists(name)


@pytest.mark.parametrize("proof", sorted(set(LEFT_OUT.values())))
def test_its_proof_is_played(proof: str) -> None:
    assert proof in SCENARIOS or (exists(proof) and not is_left_out(proof))


@pytest.mark.parametrize("path", sorted({path for paths in IF_CHANGED.values() for path in paths} | IF_CHANGED.keys()))
def test_what_decides_about_a_folder_exists(path: str) -> None:
    assert (parts.ROOT / path).exists()
