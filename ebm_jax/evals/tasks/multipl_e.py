"""MultiPL-E (Cassano et al. 2023): HumanEval's and MBPP's problems in other programming languages.

``multipl-e:js`` asks HumanEval's problems in JavaScript, ``multipl-e:mbpp:js`` those of MBPP. A completion goes on from a
function's head and stops at the row's own ``stop_tokens``; the program is the head, the completion and the row's tests
(which close the function where a stop token is its end),
and passes when it compiles and ends with status 0. The language's compiler or interpreter must be installed. Figures are
pass@k.
"""

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ebm_jax.errors import UserError
from ebm_jax.evals.tasks.metrics import pass_metrics
from ebm_jax.evals.tasks.programs import limits, require_sandbox, run_all
from ebm_jax.evals.tasks.protocol import Example, Grade, Graded, Grading, Metric, Prompt, Sampling, cut
from ebm_jax.evals.tasks.rows import Row, read_rows
from ebm_jax.evals.tasks.task import BaseTask, Work
from ebm_jax.grading.code_blocks import extract_code
from ebm_jax.grading.sandbox import Program

SANDBOX_PATH = "/usr/local/bin:/usr/bin:/bin"
"""Where programs in a sandbox look for others."""


@dataclass(frozen=True)
class Language:
    """How a program of a language is run: its file, and the shell line that compiles and runs it beside that file."""

    label: str
    file: str
    script: str

    @property
    def programs(self) -> list[str]:
        """What must be installed."""
        first = [command.split()[0] for command in self.script.split(" && ")]
        return [name for name in first if not name.startswith("./")]


LANGUAGES = {
    "clj": Language("Clojure", "main.clj", "clojure -M main.clj"),
    "cpp": Language("C++", "main.cpp", "g++ -std=c++17 -o main main.cpp && ./main"),
    "dart": Language("Dart", "main.dart", "dart run main.dart"),
    "elixir": Language("Elixir", "main.exs", "elixir main.exs"),
    "go": Language("Go", "main_test.go", "go test main_test.go"),
    "hs": Language("Haskell", "Main.hs", "runghc Main.hs"),
    "java": Language("Java", "Problem.java", "javac Problem.java && java -ea -cp . Problem"),
    "jl": Language("Julia", "main.jl", "julia main.jl"),
    "js": Language("JavaScript", "main.js", "node main.js"),
    "lua": Language("Lua", "main.lua", "lua main.lua"),
    "ml": Language("OCaml", "main.ml", "ocaml main.ml"),
    "php": Language("PHP", "main.php", "php main.php"),
    "pl": Language("Perl", "main.pl", "perl main.pl"),
    "py": Language("Python", "main.py", "python3 main.py"),
    "r": Language("R", "main.r", "Rscript main.r"),
    "rb": Language("Ruby", "main.rb", "ruby main.rb"),
    "rkt": Language("Racket", "main.rkt", "racket main.rkt"),
    "rs": Language("Rust", "main.rs", "rustc -o main main.rs && ./main"),
    "scala": Language("Scala", "Main.scala", "scalac Main.scala && scala Problem"),
    "sh": Language("Bash", "main.sh", "bash main.sh"),
    "swift": Language("Swift", "main.swift", "swiftc -o main main.swift && ./main"),
    "ts": Language("TypeScript", "main.ts", "tsc --target es2020 main.ts && node main.js"),
}
"""By the names of the published configurations."""


class MultiPLE(BaseTask):
    """Functions to write in one of 22 languages."""

    name = "multipl-e"

    def __init__(self, language: str, file: str = "", form: str = "plain", problems: str = "humaneval") -> None:
        super().__init__()
        if language not in LANGUAGES:
            raise UserError(f"multipl-e:{language}: not one of {', '.join(LANGUAGES)}; write multipl-e:js")
        self._key, self._language, self._problems = language, LANGUAGES[language], problems
        self._file, self._chat = file, form == "chat"
        self.sampling = Sampling(max_new_tokens=650)

    def ready(self, grading: Grading) -> None:
        require_sandbox(grading)
        for program in self._language.programs:
            if shutil.which(program, path=SANDBOX_PATH) is None:
                raise UserError(
                    f"multipl-e:{self._key} needs {program}, which the sandbox does not find on its path {SANDBOX_PATH}: "
                    "install it there"
                )

    def examples(self) -> list[Example]:
        config = f"{self._problems}-{self._key}"
        rows = read_rows(
            self.name, file=self._file, local=f"multipl_e/{config}.jsonl*", hub=f"nuprl/MultiPL-E:{config}"
        )
        self.provenance = rows.provenance()
        examples = [self._example(row) for row in rows.rows]
        stops = {tuple(example.info["stop"]) for example in examples}
        # A language's problems have the same; with them models need not go on to the limit.
        if len(stops) == 1 and not self._chat:
            self.sampling = replace(self.sampling, stop=stops.pop())
        return examples

    def _example(self, row: Row) -> Example:
        head = row.text("prompt")
        prompt = Prompt(text=head)
        if self._chat:
            label = self._language.label
            ask = f"Complete this {label} function. Answer with the whole function in one {label} code block."
            prompt = Prompt.chat(f"{ask}\n\n```{self._key}\n{head.rstrip()}\n```")
        info = {"head": head, "tests": row.text("tests"), "stop": row.texts("stop_tokens")}
        return Example(row.text("name"), prompt, info=info)

    def grade(self, work: Sequence[Work], grading: Grading) -> list[Grade]:
        return run_all([self._program(example, sample.text, grading) for example, sample in work], grading)

    def _program(self, example: Example, text: str, grading: Grading) -> Program:
        info = example.info
        if self._chat:
            program = joined(info["head"], extract_code(text, language=self._key), info["tests"], info["stop"])
        else:
            program = f"{info['head']}{cut(text, info['stop'])}\n{info['tests']}\n"
        return Program(
            code=program,
            command=("/bin/sh", "-c", self._language.script),
            file_name=self._language.file,
            limits=limits(grading),
            unsafe=grading.unsafe,
        )

    def summarise(self, graded: Sequence[Graded], grading: Grading) -> dict[str, Metric]:
        return pass_metrics(graded, grading)


def joined(head: str, answer: str, tests: str, stop: Sequence[str]) -> str:
    """The program of a chat's ``answer``, which says the whole function, ends it, and may have more in front of it.

    Tests go on from a function that a stop token has cut, so what follows the head in the answer is cut and put behind the
    head; lines in front of it that the head has not are kept there. An answer without the function's first line is taken
    for a program that has ended.
    """
    signature = head.rstrip().rpartition("\n")[2]
    # As people write it: other spaces and line ends, C++'s own namespace.
    pattern = r"\s*(?:std\s*::\s*)?".join(map(re.escape, re.findall(r"\w+|[^\w\s]", signature.replace("std::", ""))))
    found = list(re.finditer(rf"(?<!\w){pattern}", answer)) if pattern else []
    if not found:
        ends = [token.strip("\n") for token in stop if token.strip() and tests.startswith(token.strip("\n"))]
        return f"{answer}\n{tests.removeprefix(max(ends, key=len, default=''))}\n"
    known = {line.strip() for line in head.splitlines()} | {""}
    before = [line for line in answer[: found[-1].start()].splitlines() if line.strip() not in known]
    more = "".join(f"{line}\n" for line in before if not line.startswith("package "))
    above = head.rstrip().removesuffix(signature)
    return f"{above}{more}{signature}{cut(answer[found[-1].end() :], stop)}\n{tests}\n"
