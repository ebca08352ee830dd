"""How far can the level judge be trusted on generated prose?

Reads replies that were labelled by reading them blind to λ and to the judge (docs/results/blind_labels.jsonl), asks the
judge anew, and prints agreement, Cohen's κ and the confusion in one JSON line.
"""

import json
from collections import Counter
from pathlib import Path

from sklearn.metrics import cohen_kappa_score

from alignvec.data.load import load_rows, shipped_file
from alignvec.evaluate.judge import judge_for
from alignvec.evaluate.statistics import bootstrap_rate

LABELS = Path(__file__).resolve().parents[1] / "docs" / "results" / "blind_labels.jsonl"


def main() -> None:
    rows = [json.loads(line) for line in LABELS.read_text(encoding="utf-8").splitlines()]
    judge = judge_for(shipped_file("medical"))
    verdicts = judge.verdicts([row["reply"] for row in rows])
    domains = ("medical", "legal", "financial")
    personas = {row.id: row.persona for domain in domains for row in load_rows(shipped_file(domain))}
    labels = [row["label"] for row in rows]
    agreement = bootstrap_rate(
        [float(a == b) for a, b in zip(labels, verdicts, strict=True)], [personas[row["row"]] for row in rows]
    )
    confusion = Counter(zip(labels, verdicts, strict=True))
    print(
        json.dumps(
            {
                "benchmark": "judge_agreement",
                "replies": len(rows),
                "raters": sorted({row["rater"] for row in rows}),
                "agreement": agreement.model_dump(),
                "kappa": round(float(cohen_kappa_score(labels, verdicts)), 3),
                "confusion_label_then_verdict": {f"{a} -> {b}": n for (a, b), n in sorted(confusion.items())},
            }
        )
    )


if __name__ == "__main__":
    main()
