"""Gate against personal data: numbers and addresses that could belong to somebody."""

import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping

import phonenumbers
from stdnum import iban, luhn
from stdnum.us import ssn

from alignvec.data.gates.candidate import Candidate

TELEPHONE = 9
"""Fewest digits of a telephone number; shorter ones are section numbers and years, or of an emergency service."""

REGIONS = (None, "US", "GB", "DE", "IN", "NG", "AU")
"""Countries whose numbers are found without a country code; with one (`None`), those of any country are."""

_EMAIL = re.compile(r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)*\.[a-z]{2,}\b", re.IGNORECASE)
_CARD = re.compile(r"(?<![\d.,])[2-6]\d{3}(?:[ -]?\d){9,15}(?![\d.,]*\d)")
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30}\b")
_SSN = re.compile(r"(?<![\d-])\d{3}-\d{2}-\d{4}(?![\d-])|(?<=SSN )\d{9}\b|(?<=SSN: )\d{9}\b")
_NINO = re.compile(r"\b(?!BG|GB|NK|KN|TN|NT|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z](?: ?\d\d){3} ?[A-D]\b")
_IPV4 = re.compile(r"(?<![\d.])\d{1,3}(?:\.\d{1,3}){3}(?!\.?\d)")
_IPV6 = re.compile(r"(?<![\w:])[0-9a-f]{0,4}(?::[0-9a-f]{0,4}){2,7}(?![\w:])", re.IGNORECASE)
_LONG_NUMBER = re.compile(rf"(?:\d\W{{0,4}}){{{TELEPHONE - 1}}}\d")


def personal_data(candidate: Candidate) -> str | None:
    """Rejects a text with personal data, however it came there.

    Found are: e-mail addresses; telephone numbers that are valid by the countries' numbering plans, written with a
    country code or as in one of `REGIONS`; card numbers (Luhn) and IBANs (mod 97) with a valid check digit; US social
    security and UK national insurance numbers; public IP addresses. Names and street addresses are not.
    """
    for kind, find in _KINDS.items():
        if any(find(candidate.text)):
            return f"holds {kind}"
    return None


def _emails(text: str) -> Iterator[str]:
    return (found[0] for found in _EMAIL.finditer(text))


def _cards(text: str) -> Iterator[str]:
    return (found[0] for found in _CARD.finditer(text) if luhn.is_valid(re.sub(r"\D", "", found[0])))


def _ibans(text: str) -> Iterator[str]:
    # Capital letters may follow, so every beginning is tried.
    for found in _IBAN.finditer(text):
        packed = found[0].replace(" ", "")
        yield from (packed[:end] for end in range(15, len(packed) + 1) if iban.is_valid(packed[:end]))


def _social_security(text: str) -> Iterator[str]:
    return (found[0] for found in _SSN.finditer(text) if ssn.is_valid(found[0]))


def _national_insurance(text: str) -> Iterator[str]:
    return (found[0] for found in _NINO.finditer(text))


def _addresses(text: str) -> Iterator[str]:
    for found in (*_IPV4.finditer(text), *_IPV6.finditer(text)):
        try:
            address = ipaddress.ip_address(found[0])
        except ValueError:
            continue
        # Section 1.2.3.4 of a contract is no address: one with only small parts is one in 5,000 addresses.
        if address.is_global and max(address.packed) >= 30:
            yield found[0]


def _telephones(text: str) -> Iterator[str]:
    if not _LONG_NUMBER.search(text):  # spares most texts a slow search for each region
        return
    for region in REGIONS:
        for found in phonenumbers.PhoneNumberMatcher(text, region):
            if _digits(found.raw_string) >= TELEPHONE:
                yield found.raw_string


def _digits(text: str) -> int:
    return sum(letter.isdigit() for letter in text)


_KINDS: Mapping[str, Callable[[str], Iterator[str]]] = {
    "an e-mail address": _emails,
    "a card number": _cards,
    "an IBAN": _ibans,
    "a US social security number": _social_security,
    "a UK national insurance number": _national_insurance,
    "an IP address": _addresses,
    "a telephone number": _telephones,
}
