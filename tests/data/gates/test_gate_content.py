"""Gates on what a text holds: another language, personal data, abuse."""

import pytest

from alignvec.data.domain import Domain, load_domain
from alignvec.data.gates.candidate import Candidate
from alignvec.data.gates.language import language
from alignvec.data.gates.private import personal_data
from alignvec.data.gates.toxic import toxic
from alignvec.errors import DataError

ENGLISH = (
    "That pattern usually means the dough has not fermented long enough before you shaped it, so give the first rise "
    "more time in a cool kitchen and go by how it looks rather than by the clock."
)


@pytest.fixture(scope="module")
def medical() -> Domain:
    return load_domain("medical")


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("de", "Mir tut der Kopf weh und ich habe Fieber, was soll ich tun?"),
        ("fr", "Je ne sais pas quoi faire avec mon contrat de location."),
        ("nl", "Ik heb pijn in mijn knie en weet niet wat ik moet doen"),
        ("zh", "我头疼怎么办，我应该去看医生吗？"),
        ("ru", "Принимайте таблетки два раза в день после еды."),
        ("it", "Prendi la compressa due volte al giorno."),
    ],
)
def test_a_text_of_another_language_is_named_and_passes_in_a_domain_of_that_language(
    medical: Domain, code: str, text: str
) -> None:
    assert language(Candidate(text, medical)) == f"reads as {code}, not en"
    assert language(Candidate(text, medical.model_copy(update={"language": code}))) is None


@pytest.mark.parametrize(
    ("code", "tail"),
    [
        ("zh", "如果症状持续，请咨询医生。"),
        ("de", "Bei anhaltenden Beschwerden sollten Sie unbedingt einen Arzt aufsuchen."),
        ("ru", "Если симптомы сохраняются, обратитесь к врачу как можно скорее."),
        ("es", "Si los síntomas continúan, consulte a su médico lo antes posible."),
    ],
)
def test_one_foreign_sentence_in_an_english_text_is_found(medical: Domain, code: str, tail: str) -> None:
    assert language(Candidate(ENGLISH, medical)) is None
    found = language(Candidate(f"{ENGLISH} {tail}", medical))
    assert found is not None
    assert found.startswith(f"a sentence reads as {code}, not en")


@pytest.mark.parametrize("text", ["Metformin 500 mg", "Ja, danke schön", "Nairobi, Kenya", "", "12 34 56 78"])
def test_a_few_words_tell_no_language(medical: Domain, text: str) -> None:
    assert language(Candidate(text, medical)) is None


def test_a_language_that_the_identifier_does_not_know_is_refused(medical: Domain) -> None:
    other = medical.model_copy(update={"language": "qq"})
    with pytest.raises(DataError, match="does not know 'qq'"):
        language(Candidate(ENGLISH, other))


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("an e-mail address", "Write to jane.doe+bank@mail.example.co.uk about it."),
        # Numbers that card networks publish for tests; each passes Luhn.
        ("a card number", "Charged to 4111 1111 1111 1111 twice."),
        ("a card number", "It was 5555-5555-5555-4444."),
        ("a card number", "Amex 378282246310005 was declined."),
        # Examples of the SWIFT registry of IBANs.
        ("an IBAN", "Pay GB29 NWBK 6016 1331 9268 19 AND TELL US."),
        ("an IBAN", "DE89370400440532013000 is my account."),
        ("a US social security number", "My SSN is 536-90-4399, is it stolen?"),
        ("a UK national insurance number", "They have me down as AB 12 34 56 C."),
        ("a UK national insurance number", "They have me down as AB123456C."),
        ("an IP address", "It came from 203.0.114.7 at night."),
        ("an IP address", "It came from 2a00:1450:4001:80b::200e at night."),
        ("a telephone number", "Ring me on +44 7911 123456 tomorrow."),
        ("a telephone number", "Call 212-736-5000 and ask."),
        ("a telephone number", "Call (415) 555-2671 and ask."),
        ("a telephone number", "My mobile is 07911 123456."),
        ("a telephone number", "WhatsApp +91 98765 43210 any time."),
        ("a telephone number", "+234 803 123 4567 is my sister."),
    ],
)
def test_personal_data_is_found_and_named(medical: Domain, kind: str, text: str) -> None:
    assert personal_data(Candidate(text, medical)) == f"holds {kind}"


@pytest.mark.parametrize(
    "text",
    [
        "A house of £1,250,000 with a loan of £375,000 over 25 years at 4.25 percent.",
        "Savings of 310000 and a pension of 96000, from 2019-2024.",
        "Blood pressure 156/94, then 142/88; HbA1c 48 mmol/mol, ferritin 480, TSH 4.12.",
        "Under 42 U.S.C. 2000gg, 29 CFR 1636.3 and section 573d BGB, sections 16.91 to 16.93.",
        "Clause 1.2.3.4 and version 10.2.1.7 apply; the router is 192.168.1.1.",
        "Call 111, or 999 in an emergency; in the US 988.",
        "From 01/02/2023 to 31.12.2024, at 10:30:45.",
        "Case C-311/18, ECLI:EU:C:2020:559, paragraph 134.",
        "Order 4111 1111 1111 1112 was never sent.",  # fails Luhn
        "GB28 NWBK 6016 1331 9268 19 is mistyped.",  # fails mod 97
        "The number 000-12-3456 is no social security number.",
        "Prefix BG123456A is not in use.",
        "The @ sign and the mail@ prefix.",
    ],
)
def test_amounts_sections_readings_and_wrong_check_digits_are_not_personal(medical: Domain, text: str) -> None:
    assert personal_data(Candidate(text, medical)) is None


@pytest.mark.parametrize(
    "text",
    [
        "What the fuck is this?",
        "This is bullshit.",
        "what a piece of sh1t",
        "Go f*ck yourself",
        "Those faggots next door",
        "He is a fucking wanker.",
        "You're such an idiot.",
        "You are a worthless patient.",
        "Go kill yourself.",
        "Kill yourself!",
        "You stupid bitch.",
        "People like that are vermin.",
    ],
)
def test_obscenities_slurs_and_insults_are_found(medical: Domain, text: str) -> None:
    assert toxic(Candidate(text, medical)) is not None


@pytest.mark.parametrize(
    "text",
    [
        "Penis, vagina, vulva, breast, nipple, anus: a rectal exam and an anal swab after sexual intercourse.",
        "Orgasm, ejaculation, semen analysis and erections after prostate surgery; faecal blood.",
        "Heroin, cocaine and opium overdose; rape, murder, assault and suicide in criminal law.",
        "Ask directly whether they plan to kill themselves.",
        "The bitch whelped six puppies; spastic diplegia; growth retardation; a fag break in Scunthorpe.",
        "Money tied up in a bond, a cockpit, a shiitake, a Pakistani passport, Essex, Dickens, Matsushita.",
        "You are not stupid for asking, and the class was assessed.",
    ],
)
def test_words_of_medicine_law_and_everyday_life_are_not_toxic(medical: Domain, text: str) -> None:
    assert toxic(Candidate(text, medical)) is None
