"""The program in a completion: a fenced block, or the lines that go on with a function's head."""

import ast
import re
import warnings

_FENCE = re.compile(
    r"^([ \t]*)(`{3,}+|~{3,}+)[ \t]*([\w+#.-]*)[^\n]*\n(.*?)(?:^[ \t]*\2[ \t]*$|\Z)", re.DOTALL | re.MULTILINE
)
_ALIASES = {
    "python": ("py", "python3", "python2"), "js": ("javascript", "node"), "ts": ("typescript",), "cpp": ("c++", "cc"),
    "rs": ("rust",), "sh": ("bash", "shell"), "rb": ("ruby",), "pl": ("perl",), "cs": ("csharp", "c#"), "go": ("golang",),
    "r": ("rscript",), "jl": ("julia",), "kt": ("kotlin",), "hs": ("haskell",), "ml": ("ocaml",), "rkt": ("racket",),
    "d": ("dlang",), "php": (), "lua": (), "swift": (), "scala": (), "java": (), "clj": ("clojure",), "ex": ("elixir",),
}  # fmt: skip
_BEGINNING = re.compile(
    r"^(?:@|(?:async[ \t]+)?def[ \t]|class[ \t]|import[ \t]|from[ \t]+\S+[ \t]+import[ \t])", re.MULTILINE
)
_DEFINITION = re.compile(r"^(?:async[ \t]+)?(?:def|class)[ \t]+(\w+)", re.MULTILINE)


def extract_code(text: str, *, prompt: str = "", language: str = "python") -> str:
    """The program that a completion holds.

    A fenced block wins: the last one of the language that defines what ``prompt`` (a Python function's head) asks for, else the
    last one of the language, else the last one of none. A block that defines something else is taken for the function's body.
    Without a fence, a text that defines the function is a program itself; other text goes on with ``prompt`` up to the first
    line that leaves the function's body. What ``prompt`` has in front of the function, its imports and further functions,
    stays in front of a program.
    """
    wanted = _wanted(prompt)
    block = _block(text, wanted, language)
    if not prompt:
        return text if block is None else block
    if block is not None:
        return _before(prompt, wanted) + block if _defines(block, wanted) else prompt + _body(_indented(block))
    if _defines(text, wanted):
        return _before(prompt, wanted) + _without_prose(text)
    return prompt + _body(text)


def _moved_out(block: str, indent: str) -> str:
    return "".join(line.removeprefix(indent) for line in block.splitlines(keepends=True)) if indent else block


def _without_prose(text: str) -> str:
    """A program without the words in front of it and behind it; as it is where that makes no Python of it."""
    start = _BEGINNING.search(text)
    lines = text[start.start() if start else 0 :].splitlines(keepends=True)
    for code in ([text], lines):
        for _ in range(20):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    ast.parse("".join(code))
            except SyntaxError as error:
                # The first wrong line: of what stands behind a program, for one.
                code = code[: min(error.lineno or 1, len(code)) - 1]
            except (ValueError, RecursionError, MemoryError):
                break
            else:
                if _DEFINITION.search("".join(code)):
                    return "".join(code)
                break
    return text


def _wanted(prompt: str) -> str:
    """The function that the prompt's last definition heads."""
    names = _DEFINITION.findall(prompt)
    return names[-1] if names else ""


def _block(text: str, wanted: str, language: str) -> str | None:
    # A block in an item of a list is as far in as its fence.
    blocks = [(match[3].lower(), _moved_out(match[4], match[1])) for match in _FENCE.finditer(text)]
    names = {language, *_ALIASES.get(language, ())}
    names |= {key for key, aliases in _ALIASES.items() if language in aliases}
    right = [code for tag, code in blocks if tag in names] or [code for tag, code in blocks if not tag]
    defining = [code for code in right if wanted and _defines(code, wanted)]
    found = defining or right
    return found[-1] if found else None


def _defines(code: str, name: str) -> bool:
    return bool(name) and name in _DEFINITION.findall(code)


def _before(prompt: str, wanted: str) -> str:
    """What stands in front of the function: a program may call it without saying it again."""
    return prompt[: [match.start() for match in _DEFINITION.finditer(prompt) if match[1] == wanted][-1]]


def _indented(block: str) -> str:
    """A body that was written without its indentation."""
    first = next((line for line in block.splitlines() if line.strip()), "")
    if first[:1] in (" ", "\t"):
        return block
    return "".join(f"    {line}" if line.strip() else line for line in block.splitlines(keepends=True))


def _body(text: str) -> str:
    """The lines up to the first one that is not indented; the first line may go on with the prompt's last."""
    lines = text.splitlines(keepends=True)
    open_string = ""
    for number, line in enumerate(lines):
        if not open_string and number and line.strip() and line[0] not in " \t)]}":
            return "".join(lines[:number])
        for quote in ('"""', "'''"):
            if open_string in ("", quote) and line.count(quote) % 2:
                open_string = "" if open_string else quote
    return text
