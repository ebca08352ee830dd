"""A vector moved to another stage: shares against hand-computed ones, and a vector that is moved to where it is."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alignvec import models
from alignvec.data.schema import PreferenceRow
from alignvec.errors import DataError, VectorError
from alignvec.evaluate.judge import LevelJudge, judge_for
from alignvec.evaluate.sweep import sweep
from alignvec.evaluate.transfer import knobbed_pair, measure_transfer, wanted_levels
from alignvec.evaluate.transfer_kept import Place, cosines, levels_kept, margins_kept
from alignvec.evaluate.transfer_plot import plot_transfers
from alignvec.evaluate.transfer_record import Transfer
from alignvec.evaluate.transfer_report import summary, tables, write_transfer
from alignvec.merge.recipe import KnobTerm, MergeRecipe
from alignvec.merge.run import merge
from alignvec.models import BaseModel
from alignvec.steer.model import KnobbedModel
from alignvec.steer.sampling import Sampling
from alignvec.vectors.card import BaseReference
from alignvec.vectors.fingerprint import fingerprint
from alignvec.vectors.store import save_vector
from alignvec.vectors.vector import AlignmentVector
from tests.conftest import MakeVector, write_tiny_model

LEVELS = ("avoidance", "generic", "expert")
SHORT = Sampling(max_new_tokens=4)


def asked(count: int = 8, personas: int = 4) -> list[PreferenceRow]:
    return [
        PreferenceRow(
            id=f"m-{i}", domain="medical", split="test", topic="t", persona=f"p{i % personas}", query=f"{i}?",
            responses=dict(zip(LEVELS, ("no", "maybe so", "surely yes"), strict=True)),
        )
        for i in range(count)
    ]  # fmt: skip


@pytest.fixture
def judge(data_file: Path) -> LevelJudge:
    return judge_for(data_file)


@pytest.fixture
def stage(make_vector: MakeVector, tiny_folder: Path, tmp_path: Path) -> BaseModel:
    """The tiny model with a safety vector merged in."""
    save_vector(make_vector("safety", hinged=False, seed=9, scale=0.05), tmp_path / "safety")
    knobs = {"safety": KnobTerm(vector=tmp_path / "safety")}
    merge(MergeRecipe(base=str(tiny_folder), knobs=knobs, dtype="float32"), tmp_path / "stage")
    return models.load(str(tmp_path / "stage"), device="cpu")


def trained_on(stage: BaseModel, vector: AlignmentVector) -> AlignmentVector:
    old = vector.card.base
    base = BaseReference(name=stage.name, fingerprint=fingerprint(stage.folder), template=old.template)
    return AlignmentVector(vector.card.model_copy(update={"base": base}), vector.positive, vector.negative)


def test_margins_kept_are_ratios_of_means() -> None:
    """Half the native margin is kept at 1, a quarter at -1; over both, (2 · 0.5 + 4 · 0.25) / (2 + 4) = 1/3."""
    noise = np.array([0.5, -0.5] * 4)
    margins: dict[Place, Any] = {
        ("native", 0.0): np.zeros(8),
        ("native", 1.0): 2 + noise,
        ("foreign", 1.0): (2 + noise) / 2,
        ("native", -1.0): -4 + noise,
        ("foreign", -1.0): (-4 + noise) / 4,
    }
    below, above, total = margins_kept(margins, asked())
    assert (below.coefficient, above.coefficient, total.coefficient) == (-1.0, 1.0, None)
    for one, native, share in ((below, -4.0, 0.25), (above, 2.0, 0.5)):
        assert one.native.value == pytest.approx(native) and one.foreign.value == pytest.approx(native * share)
        # drawn for both alike, so a constant ratio has no width, however far the margins themselves spread
        assert one.kept is not None and one.native.low != one.native.high
        assert [one.kept.value, *one.kept.drawn] == pytest.approx([share] * 3)
    assert (total.native.value, total.foreign.value) == (pytest.approx(6.0), pytest.approx(2.0))
    assert total.kept is not None and total.kept.value == pytest.approx(1 / 3)


def test_the_interval_of_a_share_is_over_whole_personas() -> None:
    """Two personas, one with a share of 1 and one of 0: drawn again, the share is 0, 1/2 or 1."""
    rows = asked(8, personas=2)
    mine = np.array([1.0, 0.0] * 4)
    margins: dict[Place, Any] = {("native", 1.0): np.ones(8), ("foreign", 1.0): mine}
    share = margins_kept(margins, rows)[0].kept
    assert share is not None and (share.value, *share.drawn) == (0.5, 0.0, 1.0)
    alone = margins_kept(margins, [row.model_copy(update={"persona": "only"}) for row in rows])[0].kept
    assert alone is not None and (alone.value, alone.low, alone.high) == (0.5, None, None)


@pytest.mark.parametrize("native", [np.zeros(8), np.array([1.0, -1.0] * 4)], ids=["none", "not told from none"])
def test_a_share_of_no_effect_is_missing(native: Any) -> None:
    margins: dict[Place, Any] = {("native", 1.0): native, ("foreign", 1.0): np.ones(8)}
    one, total = margins_kept(margins, asked())
    assert one.kept is None and total.kept is None and one.foreign.value == 1.0


def test_a_foreign_vector_that_turns_the_other_way_keeps_less_than_nothing() -> None:
    margins: dict[Place, Any] = {("native", -1.0): -np.ones(8), ("foreign", -1.0): np.ones(8) / 2}
    one, total = margins_kept(margins, asked())
    assert one.kept is not None and total.kept is not None
    assert one.kept.value == total.kept.value == -0.5


def test_levels_kept_are_changes_against_the_stage() -> None:
    """Of 8 replies 2 are expert at the stage, 8 with the native vector and 5 with the foreign one: (5-2)/(8-2)."""
    said: dict[Place, list[str]] = {
        ("native", 0.0): ["expert"] * 2 + ["generic"] * 6,
        ("native", 1.0): ["expert"] * 8,
        ("foreign", 1.0): ["expert"] * 5 + ["generic"] * 3,
    }
    (one,) = levels_kept(said, {1.0: "expert"}, asked(8, personas=8))
    assert (one.measure, one.level, one.coefficient) == ("level", "expert", 1.0)
    assert (one.native.value, one.foreign.value) == (pytest.approx(0.75), pytest.approx(0.375))
    assert one.kept is not None and one.kept.value == pytest.approx(0.5)
    assert one.kept.low is not None and one.kept.low < 0.5 < one.kept.drawn[1] <= 1.0


def test_a_vector_moved_to_where_it_is_keeps_everything(
    stage: BaseModel, make_vector: MakeVector, rows: list[PreferenceRow], judge: LevelJudge
) -> None:
    native = trained_on(stage, make_vector(seed=1, scale=0.3))
    found = measure_transfer(
        knobbed_pair(stage, native, native), rows[8:], name="medical", data="d", judge=judge, sampling=SHORT
    )
    shares = [one.kept for one in found.kept if one.measure == "margin"]
    assert len(shares) == 5 and any(share is not None for share in shares)
    for share in shares:
        if share is not None:
            assert [share.value, *share.drawn] == pytest.approx([1.0] * 3, abs=1e-4)
    assert found.cosines == {"1": pytest.approx(1.0), "-1": pytest.approx(1.0)}
    effects = {(e.origin, e.coefficient): e for e in found.effects}
    assert len(effects) == 9 and effects["native", 0.0].margin.value == 0.0
    for value in (-1.0, -0.5, 0.5, 1.0):
        one, other = effects["native", value], effects["foreign", value]
        assert one.level_rate == other.level_rate and one.margin.value == pytest.approx(other.margin.value, abs=1e-4)


def test_a_measured_transfer_is_what_a_sweep_of_each_vector_measures(
    stage: BaseModel, make_vector: MakeVector, rows: list[PreferenceRow], judge: LevelJudge, tmp_path: Path
) -> None:
    native, foreign = trained_on(stage, make_vector(seed=1, scale=0.3)), make_vector(seed=2, scale=0.3)
    found = measure_transfer(
        knobbed_pair(stage, native, foreign), rows[8:], name="medical", data="d", coefficients=(-1.0, 0.0, 1.0),
        judge=judge, generate=3, sampling=SHORT, out=tmp_path / "out",
    )  # fmt: skip
    assert (found.queries, found.generated, found.fingerprint) == (8, 3, fingerprint(stage.folder))
    assert found.foreign_base.fingerprint == make_vector().card.base.fingerprint != found.fingerprint
    for origin, vector in (("native", native), ("foreign", foreign)):
        knobbed = KnobbedModel(stage, [vector], allow_other_base=True)
        alone = sweep(
            knobbed, "medical", rows[8:], data="d", coefficients=(-1.0, 1.0), judge=judge, generate=3, sampling=SHORT
        )
        mine = [e for e in found.effects if e.origin == origin and e.coefficient]
        for effect, point in zip(mine, alone.curve, strict=True):
            assert effect.coefficient == point.coefficient
            assert effect.margin.value == pytest.approx(point.margin.value, abs=1e-4)
            assert effect.level_rate == point.level_rate and effect.degenerate == point.degenerate
    levels = [(k.coefficient, k.level) for k in found.kept if k.measure == "level"]
    assert levels == [(-1.0, "avoidance"), (1.0, "expert")]
    assert Transfer.model_validate_json((tmp_path / "out/transfer.json").read_text()) == found
    assert (tmp_path / "out/transfer.png").read_bytes().startswith(b"\x89PNG")
    for table in tables(found):
        widths = [max(map(len, column)) for column in zip(table.columns, *table.rows, strict=True)]
        assert sum(widths) + 2 * (len(widths) - 1) <= 80
    assert [len(table.rows) for table in tables(found)] == [3, 5, 2]
    assert "trained on" in summary(found)


def test_a_killed_measurement_goes_on_and_ends_as_if_it_had_not_been(
    stage: BaseModel,
    make_vector: MakeVector,
    rows: list[PreferenceRow],
    judge: LevelJudge,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pair = knobbed_pair(stage, trained_on(stage, make_vector(seed=1)), make_vector(seed=2))
    given: dict[str, Any] = {"name": "medical", "data": "d", "judge": judge, "sampling": SHORT}
    whole = measure_transfer(pair, rows[8:], out=tmp_path / "whole", **given)
    lines = (tmp_path / "whole/journal.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "killed").mkdir()
    (tmp_path / "killed/journal.jsonl").write_bytes(b"".join(lines[:100]) + lines[100][:9])
    asked_for: list[int] = []
    generate = KnobbedModel.generate

    def counted(self: KnobbedModel, queries: Any, *others: Any) -> Any:
        asked_for.append(len(queries))
        return generate(self, queries, *others)

    monkeypatch.setattr(KnobbedModel, "score", None)  # the scores were all there
    monkeypatch.setattr(KnobbedModel, "generate", counted)
    resumed = measure_transfer(pair, rows[8:], out=tmp_path / "killed", **given)
    assert sum(asked_for) == len(lines) - 100
    assert resumed.model_copy(update={"provenance": whole.provenance}) == whole
    other = knobbed_pair(stage, trained_on(stage, make_vector(seed=1)), make_vector(seed=2))
    with pytest.raises(DataError, match="holds results of other"):
        measure_transfer(other, rows[8:12], out=tmp_path / "killed", **given)


def test_without_a_judge_only_margins_are_told(
    stage: BaseModel, make_vector: MakeVector, rows: list[PreferenceRow], tmp_path: Path
) -> None:
    pair = knobbed_pair(stage, trained_on(stage, make_vector()), make_vector(seed=2))
    found = measure_transfer(pair, rows[12:], name="medical", data="d", coefficients=(1.0,))
    assert (found.generated, found.judge) == (0, None) and {k.measure for k in found.kept} == {"margin"}
    assert all(e.level_rate == {} and e.degenerate is None for e in found.effects)
    assert len(tables(found)) == 1
    write_transfer(found, tmp_path / "out")
    assert json.loads((tmp_path / "out/transfer.json").read_text())["levels"] == list(LEVELS)
    plot_transfers([found, found], tmp_path / "both.png")
    assert (tmp_path / "both.png").read_bytes().startswith(b"\x89PNG")


def test_a_pair_needs_a_native_vector_and_one_tokenizer(
    stage: BaseModel, make_vector: MakeVector, tmp_path: Path
) -> None:
    with pytest.raises(VectorError, match="belongs to base"):
        knobbed_pair(stage, make_vector(), make_vector())
    native, foreign = trained_on(stage, make_vector()), make_vector()
    other = foreign.card.base.model_copy(update={"template": "0" * 64})
    strange = AlignmentVector(foreign.card.model_copy(update={"base": other}), foreign.positive, foreign.negative)
    with pytest.raises(VectorError, match="another chat template"):
        knobbed_pair(stage, native, strange)
    wide = models.load(str(write_tiny_model(tmp_path / "wide", hidden=48)), device="cpu")
    with pytest.raises(VectorError):
        knobbed_pair(wide, trained_on(wide, make_vector()), make_vector())


def test_cosines_go_with_the_sign_of_the_coefficient(make_vector: MakeVector) -> None:
    """Of a single vector λ = -1 is the other direction; against itself turned round the cosine is -1 at both ends."""
    single, hinged = make_vector(hinged=False, seed=1), make_vector(seed=1)
    assert cosines(single, -1.0 * single) == {"1": pytest.approx(-1.0), "-1": pytest.approx(-1.0)}
    mixed = cosines(single, hinged)  # the positive sides are equal, the negative ones unrelated
    assert mixed["1"] == pytest.approx(1.0) and mixed["-1"] is not None and abs(mixed["-1"]) < 0.2
    assert cosines(single, 0.0 * single) == {"1": None, "-1": None}


def test_the_wanted_levels_are_those_of_the_card(make_vector: MakeVector) -> None:
    card = make_vector().card
    assert wanted_levels(card, LEVELS) == {-1.0: "avoidance", 1.0: "expert"}
    assert wanted_levels(
        card.model_copy(update={"settings": {"comply": -1.0, "refuse": 1.0}}), ("comply", "refuse")
    ) == {
        -1.0: "comply",
        1.0: "refuse",
    }
    assert wanted_levels(card.model_copy(update={"settings": {}}), LEVELS) == {-1.0: "avoidance", 1.0: "expert"}
