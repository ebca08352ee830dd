"""Gates on the words of a text: their number, traces of the instructions, refusals."""

import re
from collections.abc import Mapping

import pytest

from alignvec.data.domain import Domain, load_domain
from alignvec.data.gates.candidate import Candidate, Gate
from alignvec.data.gates.gates import PERSONA_GATES, QUERY_GATES, REPLY_GATES, first_fault
from alignvec.data.gates.leakage import leakage
from alignvec.data.gates.refusal import refusal
from alignvec.data.gates.words import empty, reply_length, sentences


@pytest.fixture(scope="module")
def medical() -> Domain:
    return load_domain("medical")


@pytest.mark.parametrize(("text", "passes"), [("", False), (" \n", False), ("...!?", False), ("7", True), ("é", True)])
def test_a_text_is_empty_without_a_letter_or_digit(medical: Domain, text: str, passes: bool) -> None:
    assert (empty(Candidate(text, medical)) is None) is passes


@pytest.mark.parametrize(
    ("level", "fewest", "most"), [("avoidance", 15, 80), ("generic", 40, 140), ("expert", 50, 180)]
)
def test_a_reply_has_the_words_its_level_asks_for(medical: Domain, level: str, fewest: int, most: int) -> None:
    def fault(words: int) -> str | None:
        return reply_length(Candidate(" ".join(["word"] * words), medical, level, "query"))

    assert [fault(n) is None for n in (fewest - 1, fewest, most, most + 1)] == [False, True, True, False]
    assert fault(1) == f"1 words, not {fewest} to {most}"


@pytest.mark.parametrize(("gates", "fewest", "most"), [(PERSONA_GATES, 4, 60), (QUERY_GATES, 4, 120)])
def test_personas_and_queries_have_a_band_of_their_own(
    medical: Domain, gates: Mapping[str, Gate], fewest: int, most: int
) -> None:
    def passes(words: int) -> bool:
        return gates["length"](Candidate(" ".join(["word"] * words), medical)) is None

    assert [passes(n) for n in (fewest - 1, fewest, most, most + 1)] == [False, True, True, False]


JAPANESE = "頭痛が三日以上続く場合や、発熱、吐き気を伴う場合は、早めに病院を受診してください。"
THAI = "หากคุณปวดศีรษะติดต่อกันเกินสามวัน หรือมีไข้ อาเจียน และตามัวร่วมด้วย ควรรีบไปพบแพทย์ที่โรงพยาบาล"


@pytest.mark.parametrize("text", [JAPANESE, THAI, "我头疼怎么办，要看医生吗？", "ຖ້າທ່ານເຈັບຫົວຕິດຕໍ່ກັນເກີນສາມມື້"])
def test_scripts_without_spaces_pass_the_bands(medical: Domain, text: str) -> None:
    assert PERSONA_GATES["length"](Candidate(text, medical)) is None
    assert QUERY_GATES["length"](Candidate(text, medical)) is None
    assert QUERY_GATES["length"](Candidate("。".join([text] * 40), medical)) is not None


def test_a_japanese_reply_is_held_against_its_band(medical: Domain) -> None:
    def fault(times: int) -> str | None:
        return reply_length(Candidate(JAPANESE * times, medical, "generic", "query"))

    assert [fault(n) is None for n in (1, 3, 20)] == [False, True, False]


def test_the_first_gate_that_rejects_is_named_and_the_others_are_not_asked(medical: Domain) -> None:
    asked = []

    def gate(name: str, reason: str | None) -> Gate:
        def ask(candidate: Candidate) -> str | None:
            asked.append(name)
            return reason

        return ask

    gates = {"one": gate("one", None), "two": gate("two", "because"), "three": gate("three", "late")}
    assert first_fault(Candidate("x", medical), gates) == ("two", "because")
    assert asked == ["one", "two"]
    assert first_fault(Candidate("x", medical), {}) is None


def test_the_gates_are_named_as_in_the_reports() -> None:
    common = ["loop", "leakage", "toxic", "personal-data", "language"]
    assert list(PERSONA_GATES) == list(QUERY_GATES) == ["empty", "length", *common]
    assert list(REPLY_GATES) == ["empty", "length", "refusal", *common]


def test_sentences_end_at_full_stops_but_not_in_numbers() -> None:
    assert sentences("Take 2.5 mg. Why? Because!\nOr 等等。好") == [
        "Take 2.5 mg.",
        "Why?",
        "Because!",
        "Or 等等。",
        "好",
    ]


LEAKS = (
    "Expert: the dose is 5 mg daily.",
    "**Avoidance**: please ask your pharmacist about it.",
    "Generic answer:\nDrink plenty of water and rest.",
    "(expert) The dose is 5 mg daily.",
    "As an expert-level reply, the dose is 5 mg daily.",
    "This is a generic answer about sleep.",
    "Level: expert. The dose is 5 mg.",
    "Here is a query from this person: how do I sleep?",
    "Sure! Here's the rewritten reply: drink water.",
    "Here is the query:",
    "Query: how do I sleep better at night?",
    "Assistant: drink plenty of water.",
    "How do I sleep?\n\nUser: and what of coffee?",
    "<|im_start|>assistant Drink water.",
    "Drink water.</s>",
    "[INST] How do I sleep?",
    "<think>The user wants sleep advice.</think> Rest.",
    "### Response\nDrink water.",
    "The given persona would ask how to sleep.",
    "Drink plenty of water. (62 words)",
    "Drink plenty of water. Word count: 4",
    "I will answer as a specialist talking to a colleague, so: 5 mg.",
)
FINE = (
    "Generic tablets hold the same drug as the brand, and an expert can tell you more.",
    "An expert witness must set out the range of opinion under Part 35.",
    "Ask for a generic prescription. Avoidance of the trigger helps most.",
    "Raise your activity level: generic advice seldom fits. Expert opinion differs.",
    "Here is what I would do first: keep regular hours.",
    "The system: two locks and a bolt. A user should read the manual.",
    "Is there an expert near Leeds who could answer this for my mother?",
    "A specialist talking with a colleague would use other words.",
    "He is persona non grata there, so ask the embassy.",
    "If the reading is <5 or > 10, repeat it.",
)


@pytest.mark.parametrize("text", LEAKS)
def test_a_text_that_shows_its_instructions_is_found(medical: Domain, text: str) -> None:
    assert leakage(Candidate(text, medical, "expert", "query")) is not None


@pytest.mark.parametrize("text", FINE)
def test_a_levels_name_as_an_ordinary_word_is_fine(medical: Domain, text: str) -> None:
    assert leakage(Candidate(text, medical, "expert", "query")) is None


def test_five_words_of_an_instruction_are_a_copy_and_four_are_not(medical: Domain) -> None:
    words = re.findall(r"\w+", medical.levels["generic"].instruction)
    assert words[:3] == ["Answer", "as", "a"]
    four, five = " ".join(words[:4]), " ".join(words[:5])
    assert leakage(Candidate(f"So. {four} should.", medical)) is None
    found = leakage(Candidate(f"So. {five.upper()} should.", medical))
    assert found is not None
    assert "answer as a well informed" in found


@pytest.mark.parametrize(
    ("instruction", "run"),
    [
        ("ていねいに断り、医療情報や説明や助言は一切与えないでください。", 10),
        ("ปฏิเสธอย่างสุภาพและแนะนำให้ถามแพทย์ผู้เชี่ยวชาญที่เหมาะสม", 15),
    ],
)
def test_a_copy_in_a_script_without_spaces_is_found_wherever_it_stands(
    medical: Domain, instruction: str, run: int
) -> None:
    told = re.sub(r"[^、。]*、", "", instruction)
    letters = [i for i, letter in enumerate(told) if letter.isalnum()]
    copied, short = told[letters[3] : letters[3 + run]], told[letters[3] : letters[2 + run]]
    for before in ("", "あ", "ああ", "กก"):
        found = leakage(Candidate(before + copied, medical, instructions=(instruction,)))
        assert found is not None
        assert found.startswith("copies an instruction")
        assert leakage(Candidate(before + short, medical, instructions=(instruction,))) is None


def test_levels_of_another_name_leak_by_that_name(medical: Domain) -> None:
    levels = {"curt": medical.levels["generic"], "full": medical.levels["expert"]}
    other = medical.model_copy(update={"levels": levels})
    assert leakage(Candidate("Curt: rest.", other)) is not None
    assert leakage(Candidate("Expert: rest.", other)) is None


REFUSALS = (
    "I'm sorry, but I can't help with that.",
    "I’m sorry, but I can’t help with that.",
    "I cannot provide medical advice. Please consult a doctor.",
    "As an AI language model, I don't have access to your records.",
    "I'm not able to diagnose conditions, but a doctor can.",
    "I am unable to assist with this request.",
    "Unfortunately, I can't give legal advice on your specific situation.",
    "I'm not a lawyer, so please speak to one.",
    "Please consult a qualified healthcare professional.",
    "You should speak with a financial adviser. A licensed attorney can explain your options.",
    "I apologize, but I cannot fulfill this request.",
    "I must decline to answer this question.",
    "It would not be appropriate for me to comment on your dose.",
    "This is beyond my expertise; please ask a specialist.",
    "I'm just an AI and can't examine you.",
    "Sorry, I can't assist with that.",
    "I do not provide medical advice.",
    "I won't be able to answer that.",
    "My apologies, this request goes against my guidelines.",
    "Only a doctor can answer this question.",
)
ANSWERS = (
    "See a doctor if it lasts longer than a week. Take ibuprofen with food in the meantime.",
    "A pharmacist can sell you an antihistamine. Drink plenty of water.",
    "You can't help feeling tired on beta blockers.",
    "If I can say so bluntly: stop the drug.",
    "I would not start a statin here.",
    "The landlord says 'I won't pay', but the Act obliges him.",
    'Tell them "I cannot comment on that" and no more. Then write it down.',
)


@pytest.mark.parametrize("text", REFUSALS)
def test_a_refusal_is_a_fault_only_where_the_level_answers(medical: Domain, text: str) -> None:
    assert refusal(Candidate(text, medical, "expert", "query")) is not None
    assert refusal(Candidate(text, medical, "generic", "query")) is not None
    assert refusal(Candidate(text, medical, "avoidance", "query")) is None


@pytest.mark.parametrize("text", ANSWERS)
def test_an_answer_that_names_a_professional_or_quotes_a_refusal_is_none(medical: Domain, text: str) -> None:
    assert refusal(Candidate(text, medical, "expert", "query")) is None
