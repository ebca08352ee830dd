"""Asking until a text passes its gates: every text that did not is kept with its reason."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from alignvec.data.synthesis.records import Rejected
from alignvec.data.teacher.answering import NoAnswerError
from alignvec.data.teacher.request import Answer

Fault = tuple[str, str]
"""Name of a gate and its reason."""

REPEATED = "the teacher gave the same answer again, so it samples without regard to the seed"


@dataclass
class Attempts:
    """What came of asking for one text.

    Attributes:
        answer: the answer that passed; None if none did.
        text: its text, cleaned.
        asked: how many answers were asked for.
        rejected: what did not pass.
    """

    answer: Answer | None = None
    text: str = ""
    asked: int = 0
    rejected: list[Rejected] = field(default_factory=list)


async def attempt(
    stage: str,
    name: str,
    ask: Callable[[int], Awaitable[Answer]],
    fault_of: Callable[[str], Awaitable[Fault | None]],
    *,
    retries: int,
    level: str | None = None,
    clean: Callable[[str], str] = str.strip,
) -> Attempts:
    """Ask for a text, at most `1 + retries` times, until it is whole and no gate faults it.

    A teacher that repeats a faulty answer word for word is not asked again.

    Args:
        stage: what the text is for.
        name: id of the persona, query or row.
        ask: asks for the n-th try, from 0.
        fault_of: the first fault of a text.
        retries: how often to ask again.
        level: of a reply.
        clean: applied to the answer's text before it is checked.
    """
    done = Attempts()
    for number in range(1 + retries):
        done.asked += 1
        final = number == retries
        try:
            answer = await ask(number)
            text = clean(answer.text)
            fault = _cut_off(answer) or await fault_of(text)
        except NoAnswerError as error:
            text, fault, final = "", ("teacher", str(error)), True
        if fault is None:
            done.answer, done.text = answer, text
            return done
        gate, reason = fault
        if done.rejected and text and text == done.rejected[-1].text:
            reason, final = f"{reason}; {REPEATED}", True
        done.rejected.append(
            Rejected(
                stage=stage, id=name, level=level, attempt=number, gate=gate, reason=reason, text=text, final=final
            )
        )
        if final:
            break
    return done


def one_line(text: str) -> str:
    """The text on one line, without quotation marks around all of it."""
    line = " ".join(text.split())
    for opening, closing in (('"', '"'), ("“", "”"), ("'", "'"), ("«", "»")):
        if len(line) > 1 and line.startswith(opening) and line.endswith(closing) and opening not in line[1:-1]:
            return line[1:-1].strip()
    return line


def _cut_off(answer: Answer) -> Fault | None:
    if answer.finish_reason == "length":
        return "cut-off", "the answer reached its longest length and stopped in mid-sentence"
    if answer.finish_reason == "content_filter":
        return "teacher", "the teacher's content filter held the answer back"
    return None
