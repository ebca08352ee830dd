"""Gate against a reply that declines although its level answers."""

import re

from alignvec.data.gates.candidate import Candidate
from alignvec.data.gates.words import sentences

_ACT = (
    "advise|answer|assist|assess|comment|comply|decide|diagnose|discuss|engage|estimate|fulfill?|give|guess|help|"
    "interpret|judge|make|offer|provide|recommend|respond|say|share|speculate|tell|weigh"
)
_WHO = (
    "accountant|advis[eo]r|advocate|attorney|charity|clinic|clinician|counsel|counsell?or|dentist|dietitian|doctor|"
    "expert|gp|helpline|lawyer|midwife|notary|nurse|pharmacist|physician|physiotherapist|planner|practitioner|"
    "professional|psychologist|solicitor|specialist|surgeon|therapist|vet|veterinarian"
)
_DECLINES = re.compile(
    rf"""\bI\b[^.?!]{{0,12}}\b(?:can't|cannot|can\ not|won't|will\ not|couldn't)\s(?:\w+\s)?(?:{_ACT})\b
    |\bI(?:'m|\ am)\s(?:\w+\s)?(?:unable|not\ (?:able|allowed|permitted|qualified|in\ a\ position))\sto\b
    |\bI(?:'m|\ am)\snot\s(?:the\s(?:right\s)?(?:one|person|place)\b|(?:an?|your)\s(?:\w+\s)?(?:{_WHO}|human)\b)
    |\bI\s(?:must|have\ to|need\ to|will|'ll)\s(?:\w+\s)?(?:decline|refrain)\b
    |\bI\s(?:won't|will\ not|shouldn't|should\ not)\b
    |\bI(?:'d|\ would|'ll|\ will)?\s(?:much\s)?(?:rather|sooner|prefer)\s(?:not|leave|they|to\ leave)\b
    |\bI(?:'d|\ would|'ll|\ will|'m|\ am)\s(?:hate|hesitate|leave|leaving|hold\ (?:back|off)|keep\ out)\b
    |\bI(?:'d|\ would)\s(?:only\s)?be\s(?:wrong|reckless|foolish|unwise|guessing|speculating|overstepping|improvising)\b
    |\bI\ haven't\ (?:seen|read|met|examined)\b
    |\bI\s(?:don't|do\ not)\s(?:give|offer|provide|feel\ able|feel\ comfortable)\b
    |\b(?:beyond\ (?:me|what\ I)|(?:not|n't)\ mine\ to|not\ for\ me\ to|not\ something\ I\ can|isn't\ something\ I)\b
    |\bas\san?\s(?:AI|artificial|large\ language|language\ model|virtual\ assistant|chatbot)
    |\bI(?:'m|\ am)\s(?:just\ |only\ )?an?\s(?:AI\b|artificial|language\ model|chatbot)
    |\b(?:not\s(?:be\s)?|in)appropriate\sfor\sme\sto\b
    |\b(?:outside|beyond|against)\s(?:my|the\ scope\ of\ my)\s(?:scope|guidelines|polic|abilit|capab|expertise|remit)
    |^(?:I'm\ |I\ am\ )?(?:so\ |very\ )?sorry,?\s(?:but\s)?(?:I|this|that)\s(?:can't|cannot|am\ not|is\ not|isn't)
    """,
    re.IGNORECASE | re.VERBOSE,
)
_QUOTED = re.compile(r"(?<!\w)'.*?'(?!\w)|\"[^\"]*\"|“[^”]*”")
_REDIRECTS = re.compile(
    rf"\b(?:ask|bring|call|consult|contact|find|phone|reach out|refer|ring|see|seek|speak|talk|take|turn|visit)\b"
    rf"[^.?!]*\b(?:{_WHO})s?\b"
    rf"|\b(?:{_WHO})s?\b[^.?!]*\b(?:can|could|should|will|would|is|are)\b",
    re.IGNORECASE,
)


def declines(text: str) -> bool:
    """Whether a text has one of the usual phrases of declining in English, outside quotations."""
    return _DECLINES.search(_unquoted(text)) is not None


def refusal(candidate: Candidate) -> str | None:
    """Rejects a reply that declines, at a level whose `answers` is true.

    It sees the usual phrases of declining in English, and a reply of which every sentence only sends the reader to a
    professional. A refusal in other words is for the level check of a judge to find.
    """
    if candidate.level is None or not candidate.domain.levels[candidate.level].answers:
        return None
    text = _unquoted(candidate.text)
    if found := _DECLINES.search(text):
        return f"declines to answer: {found[0]!r}"
    if all(_REDIRECTS.search(sentence) for sentence in sentences(text)):
        return "only sends the reader to a professional"
    return None


def _unquoted(text: str) -> str:
    return _QUOTED.sub("", text.replace("‘", "'").replace("’", "'"))
