"""Fine-tuning stages: model folders of their own, which vectors are trained on and moved between."""

from pathlib import Path

from alignvec.merge.recipe import KnobTerm, MergeRecipe
from alignvec.merge.run import MergeReport, merge
from alignvec.models import DEMO
from alignvec.train.config import TrainConfig
from alignvec.train.vector import train_vector


def write_stage(vector: Path, out: Path, *, base: str = DEMO, coefficient: float = 1.0) -> MergeReport:
    """Write base + λ·Δ as a model folder in float32, with the base's tokenizer and chat template.

    The same base, vector and λ give the same bytes; where they stand already, nothing is written. The fingerprints of
    base and stage are in the report, which is also `alignvec.json` in the folder.

    Args:
        vector: folder of the vector, such as one for safety.
        out: folder of the stage.
        base: base model: `demo`, a folder or a hub id.
        coefficient: λ.

    Raises:
        AlignvecError: if base or vector are missing, damaged or do not fit, or something else is at `out`.
    """
    recipe = MergeRecipe(base=base, knobs={"stage": KnobTerm(vector=vector, coefficient=coefficient)}, dtype="float32")
    return merge(recipe, out)


def train_stage(config: TrainConfig, out: Path) -> MergeReport:
    """Train a recipe and write its model, the vector at λ = 1, to `out/stage`; killed or finished, it goes on.

    With `loss: sft` that is supervised fine-tuning.

    Raises:
        AlignvecError: see `train_vector` and `write_stage`.
    """
    return write_stage(train_vector(config, out), out / "stage", base=config.base)
