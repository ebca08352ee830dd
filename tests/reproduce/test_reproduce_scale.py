from pathlib import Path

import pytest

from alignvec.errors import ConfigError
from alignvec.reproduce.scale import SCALES, load_scale


@pytest.mark.parametrize("name", [path.stem for path in sorted(SCALES.glob("*.yaml"))])
def test_every_scale_that_comes_with_the_project_is_read_and_short(name: str) -> None:
    scale = load_scale(name)
    assert {-1.0, 0.0, 1.0} <= set(scale.coefficients)
    assert len((SCALES / f"{name}.yaml").read_text().splitlines()) < 25
    for place in (scale.vectors, scale.router, scale.goals):
        assert place is None or place.exists()


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "no YAML mapping"),
        ("- 1\n", "no YAML mapping"),
        ("base: [\n", "must be YAML"),
        ("bases: demo\n", "bases: Extra inputs.*keys: base, dtype, vectors"),
        ("validation: 0\n", "validation: Input should be greater"),
        ("coefficients: [-1, 1]\n", "coefficients lack 0"),
        ("coefficients: [-1, 0, .nan]\n", "finite"),
        ("domains: []\n", "domains"),
        ("domains: [medical, legal]\n", "three are needed"),
        ("moved: safety\n", "none of the domains"),
    ],
)
def test_a_bad_scale_is_refused_in_one_line(tmp_path: Path, text: str, cause: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=cause) as caught:
        load_scale(str(path))
    assert "\n" not in str(caught.value)


def test_an_unknown_scale_names_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"no scale 'huge' \(have: paper, small, tiny\)"):
        load_scale("huge")
    with pytest.raises(ConfigError, match="no scale file at mine/huge.yaml; check --scale"):
        load_scale("mine/huge.yaml")


def test_paths_are_taken_from_the_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("vectors: mine\nrouter: ../router\n")
    scale = load_scale(str(path))
    assert (scale.vectors, scale.router) == (tmp_path / "mine", tmp_path / "../router")


def test_a_limit_never_raises_what_a_scale_measures() -> None:
    tiny = load_scale("tiny")
    assert tiny.limited(5) == tiny and tiny.limited(None) == tiny
    small = load_scale("small").limited(5)
    assert (small.test, small.spoken, small.compared, small.capability) == (5, 5, 5, 5)
