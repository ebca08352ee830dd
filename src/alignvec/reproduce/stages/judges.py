"""How far judges agree on the replies of the single-domain curves, before any of them is believed."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from alignvec.data.load import load_files, shipped_file
from alignvec.evaluate.agreement_plot import plot_agreement
from alignvec.evaluate.judged import judge_replies, load_items
from alignvec.evaluate.judged_record import Judged
from alignvec.evaluate.judged_report import confusions, tables
from alignvec.evaluate.judging import Judge
from alignvec.evaluate.labels import Reader, load_readers
from alignvec.evaluate.likelihood_judge import journals_beside, likelihood_judge
from alignvec.models import DEMO
from alignvec.reproduce.material import level_judge
from alignvec.reproduce.place import Place
from alignvec.reproduce.stage import Figure, Section, Stage
from alignvec.shipped import ROOT

LABELS = ROOT / "docs" / "results" / "blind_labels.jsonl"
"""Labels by reading of replies of the demo model."""


def measure(place: Place) -> Judged:
    """Judge every reply by classifier and likelihood, and compare with labels by reading where there are some."""
    files = [place.data("curves") / domain / "replies.jsonl" for domain in place.scale.domains]
    rows = {row.id: row for row in load_files([shipped_file(domain) for domain in place.scale.domains])}
    items = load_items(files, rows)
    texts = {item.key: item.reply for item in items}
    readers: list[Reader] = []
    if place.scale.base == DEMO and LABELS.is_file():
        readers = [mine for reader in load_readers(LABELS) if (mine := _of_these(reader, texts)).labels]
    judges: list[Judge] = [level_judge(place), likelihood_judge(journals_beside(files), rows, model=place.base_folder)]
    names = [f"curves/{domain}/replies.jsonl" for domain in place.scale.domains]
    found, _ = judge_replies(items, judges, rows, readers=readers, files=names, seed=place.scale.seed)
    return found


def _of_these(reader: Reader, texts: Mapping[tuple[str, float], str]) -> Reader:
    """A reader's labels of these very replies: another machine's may differ in a word."""
    same = {key: label for key, label in reader.labels.items() if label.reply == texts.get(key)}
    return replace(reader, labels=same)


def show(found: Judged, figures: Path) -> Section:
    """κ of every two judges, and who can be trusted with what."""
    plot_agreement(found, figures / "judges.png")
    told = tuple(trust.line() for trust in found.agreement.trust)
    return Section(
        text=(
            f"{found.replies} replies, judged by a classifier trained on reference replies, by the likeliest reference "
            "reply at the same setting, and, where there are labels, by a reader (a language model that saw neither λ "
            "nor verdict).",
            _labelled(found),
            *told,
        ),
        tables=(*tables(found), *confusions(found)),
        figures=(Figure(path="judges.png", caption="Agreement of judges (κ)."),),
    )


def _labelled(found: Judged) -> str:
    counts = {one.name: one.asked for one in found.judges if one.name in found.readers}
    if not counts:
        return "None of these very replies was labelled by reading, so nothing here says whether the judges are right."
    return "; ".join(f"{name} labelled {count} of them" for name, count in counts.items()) + "."


STAGE = Stage(
    name="judges",
    title="Can the judges be believed?",
    record=Judged,
    measure=measure,
    show=show,
    needs=("curves",),
    reads=lambda _: [LABELS],
)
