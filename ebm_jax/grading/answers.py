"""Final answers in what a model wrote: GSM8K's marker, boxed LaTeX, the last number, a letter of multiple choice."""

import re
from collections.abc import Sequence

_NUMBER = re.compile(
    r"""
    (?P<sign> (?<![\w)\]}.%]) [-+−] \s? (?=[$€£\d.]) )?  # a minus after a value is a subtraction
    (?: (?<!\w) \\? [$€£] \s? (?P<inner>[-−])? )?
    (?P<digits> (?<![\d.]) (?<![A-Za-z_^]) (?: \d{1,3} (?:,\d{3})+ (?!\d) | \d+ ) (?:\.\d+)? | (?<![\d\w.]) \.\d+ )
    (?P<exponent> [eE][-+]?\d{1,3} (?![\w.]) )?
    """,
    re.VERBOSE,
)
_THIN_SPACES = re.compile(r"\\[!,;: ]|\{,\}|\u202f|\u2009|(?<=\d)\u00a0(?=\d{3})")
_MARKER = re.compile(r"####[ \t]*([^\n]*)")
_BOX = re.compile(r"\\(?:f?boxed|fbox)(?![a-zA-Z])\s*")
_TOKEN = re.compile(r"[^\s$\\{}]+")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_FINAL = re.compile(r"(?:final\s+answer|the\s+answer)\s*(?:is\s*:?|:)\s*", re.IGNORECASE)


def number_form(digits: str) -> str:
    """The one way to write a decimal number: no separators, no plus, no needless zeros; ``-0`` is ``0``."""
    text = digits.replace("−", "-").replace(",", "").strip()
    mantissa, mark, exponent = text.lower().partition("e")
    negative = mantissa.startswith("-")
    whole, _, part = mantissa.lstrip("+-").partition(".")
    if mark:
        whole, part = _shifted(whole, part, int(exponent))
    whole, part = whole.lstrip("0") or "0", part.rstrip("0")
    value = f"{whole}.{part}" if part else whole
    return f"-{value}" if negative and value != "0" else value


def _shifted(whole: str, part: str, places: int) -> tuple[str, str]:
    digits, point = whole + part, len(whole) + places
    if point <= 0:
        return "0", "0" * -point + digits
    return digits[:point].ljust(point, "0"), digits[point:]


def numbers(text: str) -> list[str]:
    """Every number in the text in its normal form: ``$1,250.50`` is ``1250.5``, ``-3%`` is ``-3``, ``10-3`` is 10 and 3."""
    found = []
    for match in _NUMBER.finditer(_THIN_SPACES.sub("", text)):
        minus = (match["sign"] or "").strip() in {"-", "−"} or bool(match["inner"])
        found.append(number_form(("-" if minus else "") + match["digits"] + (match["exponent"] or "")))
    return found


def last_number(text: str) -> str | None:
    """The last number of the text in its normal form, None without one."""
    found = numbers(text)
    return found[-1] if found else None


def marked_number(text: str) -> str | None:
    """The number behind the first ``####`` in its normal form (Cobbe et al. 2021), None without such a line.

    What a model writes after its first answer belongs to another question.
    """
    match = _MARKER.search(text)
    found = numbers(match[1]) if match else []
    return found[0] if found else None


def gsm8k_answer(text: str, *, strict: bool = False) -> str | None:
    """The answer to a word problem: behind ``####``, else boxed, else (unless ``strict``) the last number of the text."""
    marked = marked_number(text)
    if marked is not None or strict:
        return marked
    boxed = boxed_answer(text)
    return (last_number(boxed) if boxed else None) or last_number(text)


def boxed_answer(text: str) -> str | None:
    r"""What the last complete ``\boxed{..}`` or ``\fbox{..}`` holds, braces nested to any depth; None without one.

    ``\boxed 7`` holds the next token. A box that the text's end cuts off does not count.
    """
    closing = _closing_braces(text)
    for match in reversed(list(_BOX.finditer(text))):
        start = match.end()
        if text[start : start + 1] != "{":
            token = _TOKEN.match(text, start)
            if token:
                return token[0].rstrip(".,;:") or None
            continue
        if start in closing:
            return text[start + 1 : closing[start]].strip()
    return None


def _closing_braces(text: str) -> dict[int, int]:
    """Where each brace that is closed closes; one pass, for a model may open boxes for ever."""
    opened: list[int] = []
    closing = {}
    for match in _BRACE.finditer(text):
        if match[0] == "{":
            opened.append(match.start())
        elif match[0] == "}" and opened:
            closing[opened.pop()] = match.start()
    return closing


def maths_answer(text: str) -> str | None:
    r"""The answer to a mathematics problem as LaTeX: the last box, else what follows the last "the answer is".

    None where the text has neither; a number somewhere in it is not taken for an answer.
    """
    boxed = boxed_answer(text)
    if boxed is not None:
        return boxed
    announced = list(_FINAL.finditer(text))
    if not announced:
        return None
    rest = text[announced[-1].end() :].lstrip("* \t\n")
    for opening, closing in (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]")):
        if rest.startswith(opening) and closing in rest[len(opening) :]:
            return rest[len(opening) :].partition(closing)[0].strip() or None
    sentence = re.split(r"\n|\.(?=\s|$)", rest, maxsplit=1)[0].strip().strip("*").strip()
    return sentence or None


def final_answer(text: str) -> str | None:
    """The answer that some convention marks: ``####``, a box, "the answer is"; else a text of one word, or the last number."""
    marked = marked_number(text)
    if marked is not None:
        return marked
    word = text.strip()
    return maths_answer(text) or (word if len(word.split()) == 1 else last_number(text))


def choice_letter(text: str, letters: str | Sequence[str] = "ABCD") -> str | None:
    """The letter a model chose, upper case; None when no rule finds one.

    Tried in order: the last box; the last "answer is X" or "Answer: X"; a text that starts with the letter alone ("B", "(B)",
    "B. because"); the last letter in round brackets; a last line that is the letter alone.
    """
    one = f"[{''.join(map(re.escape, letters))}]"
    marked = rf"(?:\\text(?:bf)?\s*\{{)?[*_\s]*[(\[]?({one})(?![\w'’])"
    boxed = boxed_answer(text)
    if boxed is not None and (match := re.match(marked, boxed.strip(), re.IGNORECASE)):
        return match[1].upper()
    named = rf"answer(?:\s+is)?\s*[:=]?[\s*_]*(?:is\s*)?(?:option\s*|choice\s*)?:?\s*\$?{marked}"
    announced = [found for found in re.finditer(named, text, re.IGNORECASE) if _stands_alone(text, found)]
    if announced:
        return announced[-1][1].upper()
    if match := re.match(rf"\s*[*_]*[(\[]?({one})(?:[)\].:,*_]|\s*$|\s*\n)", text):
        return match[1].upper()
    if bracketed := re.findall(rf"\(({one})\)", text):
        return bracketed[-1].upper()
    last = text.strip().splitlines()[-1] if text.strip() else ""
    match = re.fullmatch(rf"[*_\s]*[(\[]?({one})[)\].]?[*_\s]*", last)
    return match[1].upper() if match else None


def _stands_alone(text: str, match: re.Match[str]) -> bool:
    # "the answer is a number" names no option: a bare lower-case letter counts only before a stop, a bracket or the end.
    letter = match[1]
    return letter.isupper() or bool(re.match(r"\s*(?:[.)\]*:,]|$)", text[match.end(1) :]))
