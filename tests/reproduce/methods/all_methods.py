"""Every method on the tiny model, with hinged vectors of two domains."""

from collections.abc import Sequence

from alignvec.data.load import levels_of
from alignvec.data.schema import PreferenceRow
from alignvec.models import BaseModel
from alignvec.reproduce.methods.base import Base
from alignvec.reproduce.methods.control_vectors import find_control_vectors
from alignvec.reproduce.methods.joint import Joint, JointVector
from alignvec.reproduce.methods.knobs import knob_method
from alignvec.reproduce.methods.method import Method
from alignvec.reproduce.methods.mixing import mixing_method
from alignvec.reproduce.methods.prompting import FewShot, ZeroShot
from alignvec.reproduce.methods.soup import Soup
from alignvec.reproduce.methods.steering import Steering
from alignvec.vectors.vector import AlignmentVector
from tests.conftest import MakeVector, preference_record

DOMAINS = ("medical", "legal")
LEVELS = ("avoidance", "generic", "expert")
STRENGTHS = {domain: {"avoidance": -0.6, "generic": 0.0, "expert": 0.8} for domain in DOMAINS}
ALPHAS = {domain: {"avoidance": 0.7, "generic": 0.0, "expert": 1.5} for domain in DOMAINS}
BOTH = {"medical": "expert", "legal": "avoidance"}
INSTRUCTIONS = {domain: {level: f"Be {level}." for level in LEVELS} for domain in DOMAINS}


def some_rows(splits: Sequence[str] = ("train",) * 2, domains: Sequence[str] = DOMAINS) -> list[PreferenceRow]:
    return [
        PreferenceRow.model_validate(preference_record(i, split, domain))
        for domain in domains
        for i, split in enumerate(splits)
    ]


def hinged_pair(make_vector: MakeVector) -> list[AlignmentVector]:
    return [make_vector(domain, seed=i, scale=0.3) for i, domain in enumerate(DOMAINS)]


def every_method(tiny: BaseModel, make_vector: MakeVector) -> list[Method]:
    vectors = hinged_pair(make_vector)
    rows = some_rows()
    joint = [JointVector(goal, make_vector("j", hinged=False, seed=7, scale=0.3)) for goal in (BOTH,)]
    joint.append(JointVector({"medical": "expert"}, make_vector("k", hinged=False, seed=8, scale=0.3)))
    joint.append(JointVector({"legal": "avoidance"}, make_vector("l", hinged=False, seed=9, scale=0.3)))
    return [
        Base(tiny),
        ZeroShot(tiny, INSTRUCTIONS),
        FewShot(tiny, rows, shots=1),
        *(knob_method(tiny, vectors, form, STRENGTHS) for form in ("one-sided", "two-sided", "hinged")),
        Joint(tiny, joint),
        Soup(tiny, vectors, levels_of(rows)),
        mixing_method(tiny, vectors, STRENGTHS),
        Steering(tiny, find_control_vectors(tiny, rows), ALPHAS, layers=(0, 1)),
    ]
