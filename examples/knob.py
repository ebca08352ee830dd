"""One question at three settings, then a batch in which every row has knobs of its own.

Shows: `alignvec.load`, one knob as a level or a number, several knobs at once, the λ = 0 base model.
Needs: `make install` (or alignvec with the shipped vectors), 1 GB of memory; about half a minute on two cores.
Run:   python examples/knob.py [MODEL [VECTORS]]    default: the demo model with the shipped vectors
"""

import sys

import alignvec
from alignvec.errors import AlignvecError

try:
    model = alignvec.load(*sys.argv[1:3])
except AlignvecError as error:
    sys.exit(f"error: {error}")
print("knobs:", {name: dict(scale.levels) for name, scale in model.scales.items()})

question = "My landlord keeps my deposit. What can I do?"
settings = ["legal=avoidance", "base", "legal=expert"]
for setting, reply in zip(settings, model.generate(question, settings, max_new_tokens=60), strict=True):
    print(f"\n── {setting} ──\n{reply}")

batch = {
    "I have chest pain when I climb stairs. What should I do?": "medical=avoidance",
    "Can I take ibuprofen with aspirin?": "medical=expert,legal=-0.3",
    "How do I boil an egg?": "base",
    "Should I pay off my loan early?": {"financial": "80%"},
}
for (question, setting), reply in zip(
    batch.items(), model.generate(list(batch), list(batch.values()), max_new_tokens=60), strict=True
):
    print(f"\n── {question} [{setting}] ──\n{reply}")
