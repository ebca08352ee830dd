"""Words of a text, also in scripts that put no space between words."""

import re
from collections.abc import Iterator

# Letters a word, measured against ICU's dictionaries (Intl.Segmenter) on medical prose: Chinese and Japanese 1.7;
# Thai 3.0, Khmer 2.9, Lao 2.8, Burmese 2.2.
_EAST = "々〆〇\u3041-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
_SOUTH_EAST = "\u0e01-\u0eff\u1000-\u109f\u1780-\u17ff\ua9e0-\ua9ff\uaa60-\uaa7f"
_LETTERS = {2: re.compile(f"[{_EAST}]+"), 3: re.compile(f"[{_SOUTH_EAST}]+")}
_RUN = re.compile(f"([{_EAST}]+|[{_SOUTH_EAST}]+)")


def words(text: str) -> list[str]:
    """Words of a text, as white space separates them.

    A run of a script without spaces counts as about one word to 2 letters (Chinese characters, kana) or 3 (Thai, Lao,
    Khmer, Burmese; vowel signs and tone marks are no letters); the run is cut so from its start, the last piece may be
    shorter. What stands next to a run, as digits or Latin letters, is a word of its own; punctuation alone is none.
    """
    return [part for word in text.split() for part in _parts(word)]


def runs(text: str) -> Iterator[tuple[str, int]]:
    """The runs of scripts without spaces, letters only, each with its number of letters to a word."""
    for found in _RUN.finditer(text):
        yield _letters(found[0]), _size(found[0])


def _parts(word: str) -> Iterator[str]:
    if not _RUN.search(word):
        yield word
        return
    for piece in _RUN.split(word):
        if not any(letter.isalnum() for letter in piece):
            continue
        if not _RUN.match(piece):
            yield piece
            continue
        letters, size = _letters(piece), _size(piece)
        yield from (letters[i : i + size] for i in range(0, len(letters), size))


def _letters(run: str) -> str:
    return "".join(letter for letter in run if letter.isalnum())


def _size(run: str) -> int:
    return next(size for size, script in _LETTERS.items() if script.match(run))
