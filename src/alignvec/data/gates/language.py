"""Gate against text in another language than the domain's."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from alignvec.data.gates.candidate import Candidate
from alignvec.data.gates.words import sentences
from alignvec.errors import DataError

# Chosen on the shipped rows: names of places lower the probability of English to .2, an answer that quotes Spanish
# grammar to .014; a sentence of a foreign language is below 1e-4, but so is a quotation in an English sentence.
WHOLE = 0.01
SENTENCE = 1e-4
SURE = 0.6


def language(candidate: Candidate) -> str | None:
    """Rejects a text that is not in the domain's language, or that holds a whole sentence in another one.

    Texts of under 5 words in a Latin script pass: names and numbers alone tell no language.

    Raises:
        DataError: if the identifier does not know the domain's language.
    """
    wanted = candidate.domain.language
    if not _tells(candidate.text):
        return None
    found = _probabilities(candidate.text, wanted)
    if found[wanted] < WHOLE:
        return f"reads as {_likeliest(found)}, not {wanted}"
    for sentence in filter(_tells, sentences(candidate.text)):
        found = _probabilities(sentence, wanted)
        if found[wanted] < SENTENCE and found[_likeliest(found)] >= SURE:
            return f"a sentence reads as {_likeliest(found)}, not {wanted}: {sentence[:40]!r}"
    return None


def _tells(text: str) -> bool:
    return len(text.split()) >= 5 or (not text.isascii() and len(text.encode()) >= 30)


def _likeliest(probabilities: Mapping[str, float]) -> str:
    return max(probabilities, key=lambda code: probabilities[code])


def _probabilities(text: str, wanted: str) -> dict[str, float]:
    found = {code: float(share) for code, share in _identifier().rank(text)}
    if wanted not in found:
        raise DataError(f"the language gate does not know {wanted!r} (it knows {', '.join(sorted(found)[:8])}, ...)")
    return found


@cache
def _identifier() -> Any:
    # Loading takes half a second, so it waits for the first text.
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
