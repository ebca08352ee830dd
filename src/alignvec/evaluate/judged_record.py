"""What several judges said of the same replies."""

from alignvec.evaluate.agreement import JudgeAgreement
from alignvec.provenance import Provenance
from alignvec.vectors.strict import Interval, Strict


class JudgedBy(Strict):
    """One judge's part.

    Attributes:
        name: the judge.
        about: what it judges by.
        asked: replies that it was to judge; a reader's are those with a label.
        missing: reason to the share of those without a verdict.
    """

    name: str
    about: str
    asked: int
    missing: dict[str, Interval]


class Rates(Strict):
    """Level rates of one domain's replies at one λ, by one judge.

    Attributes:
        replies: replies that the judge was to judge, those without a verdict included.
        missing: of these, how many have no verdict.
        rate: level to its share of the replies; with the missing ones they sum to 1.
        agreed: share of the replies with a verdict and a label whose level is the reader's; None without such.
    """

    domain: str
    coefficient: float
    judge: str
    replies: int
    missing: int
    rate: dict[str, Interval]
    agreed: Interval | None = None


class Judged(Strict):
    """What several judges say of the same replies.

    Attributes:
        files: names of the files of replies.
        replies: how many were judged.
        of: how many there were.
        seed: of the choice and of the resampling.
        judges: every judge, readers last.
        readers: judges that are labels by reading.
        rates: by domain, λ and judge.
        agreement: between judges.
        unused_labels: labels of replies that were not judged.
    """

    files: tuple[str, ...]
    replies: int
    of: int
    seed: int
    judges: tuple[JudgedBy, ...]
    readers: tuple[str, ...]
    rates: tuple[Rates, ...]
    agreement: JudgeAgreement
    unused_labels: int
    provenance: Provenance
