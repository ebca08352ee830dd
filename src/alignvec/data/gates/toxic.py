"""Gate against obscene words, slurs and abuse."""

import re

from alignvec.data.gates.candidate import Candidate

# Beginnings of words; only such as have no clinical, legal, veterinary or everyday meaning.
_STEMS = (
    "arsehole|assclown|asshat|asshole|asswipe|bellend|bollocks|bukkake|bullshit|clusterfuck|cocksuck|cumshot|cunt|"
    "dickhead|dipshit|douchebag|dumbass|faggot|fuck|fucktard|gangbang|gook|jackass|jigaboo|jizz|kike|knobhead|milf|"
    "motherfuck|nigga|nigger|paki|raghead|shit|slut|towelhead|twat|wank|wetback|whore"
)
_ENDINGS = "(?:s|e|es|y|in|ed|er|ers|ing|ty|ted|ter|ters|ting|head|heads|face)?"
_DISGUISE = {"a": "[a@4*]", "e": "[e3*]", "i": "[i1!*]", "o": "[o0*]", "s": "[s$5]", "u": "[uv*]"}
_WORDS = re.compile(
    rf"(?<!\w)(?:{''.join(_DISGUISE.get(letter, letter) for letter in _STEMS)}){_ENDINGS}(?!\w)", re.IGNORECASE
)
_ABUSE = re.compile(
    r"(?:^|[.!?,]\s*|\b(?:go|just|please|should)\s)kill\syourself\b|\bgo\s(?:and\s)?die\b|\bhope\syou\sdie\b"
    r"|\byou(?:'re|\sare)\s(?:(?:such|a|an|so|just|completely|really|all)\s){0,3}(?:disgusting|worthless|stupid|pathetic|"
    r"subhuman|idiots?|morons?|imbeciles?|scum|vermin|retard(?:ed|s)?)\b"
    r"|\b(?:stupid|dumb|lazy|crazy|fat|ugly|you|son\sof\sa)\sbitch(?:es)?\b"
    r"|\b(?:are|all)\s(?:subhuman|vermin)\b|\bshould\s(?:all\s)?be\s(?:exterminated|gassed|lynched)\b",
    re.IGNORECASE,
)


def toxic(candidate: Candidate) -> str | None:
    """Rejects a text with an English obscenity, a slur, or a plain insult or threat to the reader.

    It knows a short list of words (also with letters replaced, as in sh1t) and some phrases, no meaning: it lets
    polite contempt, bad advice, stereotypes and other languages pass, and it rejects a word that is only quoted, as
    by somebody who was harassed. Words of the body, of sex, drugs and violence are not on the list.
    """
    text = candidate.text.replace("’", "'")
    found = _WORDS.search(text) or _ABUSE.search(text)
    return f"holds {found[0].strip()!r}" if found else None
