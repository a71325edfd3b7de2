"""A chat endpoint as the judge, against a server in this process; and a model here as the judge."""

import json
import math
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from ebm_jax.errors import UserError
from ebm_jax.evals.tasks.judges import EndpointJudge, JudgeError, LocalJudge, OddAnswer, open_judge
from ebm_jax.evals.tasks.options import TaskOptions
from ebm_jax.evals.tasks.registry import make_task
from ebm_jax.evals.tasks.runner import run_task
from tests.evals.tasks.fakes import FakeModel, write_rows

KEY = "sk-very-secret"
ASK = [{"role": "user", "content": "Rate this."}]


class Endpoint:
    """Answers with what ``script`` holds, the last one for good: (status, headers, body)."""

    def __init__(self) -> None:
        self.script: list[tuple[int, dict[str, str], Any]] = []
        self.seen: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.seen.append((self.path, dict(self.headers), body))
                status, headers, answer = outer.script.pop(0) if len(outer.script) > 1 else outer.script[0]
                if answer is None:  # hang up without a word
                    self.close_connection = True
                    return
                sent = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
                if not status:
                    self.wfile.write(sent)
                    self.close_connection = True
                    return
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                if "Content-Length" not in headers:
                    self.send_header("Content-Length", str(len(sent)))
                self.end_headers()
                self.wfile.write(sent)

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        self._thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self._thread.join()
        self.server.server_close()


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    server = Endpoint()
    monkeypatch.setenv("EBM_JAX_JUDGE_URL", server.url)
    monkeypatch.setenv("EBM_JAX_JUDGE_KEY", KEY)
    monkeypatch.delenv("EBM_JAX_JUDGE_MODEL", raising=False)
    yield server
    server.close()


def said(text: str) -> tuple[int, dict[str, str], Any]:
    return 200, {}, {"choices": [{"message": {"role": "assistant", "content": text}}]}


def judge(retries: int = 2) -> tuple[EndpointJudge, list[float]]:
    waits: list[float] = []
    return EndpointJudge("critic", retries=retries, timeout=5, wait=waits.append), waits


def test_what_is_sent_and_what_comes_back(endpoint: Endpoint):
    endpoint.script = [said("Rating: [[7]]")]
    one, waits = judge()
    assert one.write(ASK, max_new_tokens=20, temperature=0.5) == "Rating: [[7]]" and not waits
    path, headers, body = endpoint.seen[0]
    assert path == "/v1/chat/completions" and headers["Authorization"] == f"Bearer {KEY}"
    assert body == {"model": "critic", "messages": ASK, "max_tokens": 20, "temperature": 0.5}


def test_no_key_no_header_and_an_address_may_be_whole(endpoint: Endpoint, monkeypatch):
    monkeypatch.delenv("EBM_JAX_JUDGE_KEY")
    monkeypatch.setenv("EBM_JAX_JUDGE_MODEL", "named")
    endpoint.script = [said("yes")]
    EndpointJudge(url=endpoint.url + "/chat/completions/").write(ASK, max_new_tokens=1)
    path, headers, body = endpoint.seen[0]
    assert path == "/v1/chat/completions" and "Authorization" not in headers and body["model"] == "named"


def test_probabilities_of_choices(endpoint: Endpoint):
    tops = [{"token": t, "logprob": math.log(p)} for t, p in [("M", 0.6), (" m", 0.1), ("m", 0.1), ("The", 0.2)]]
    answer = {"message": {"content": "M"}, "logprobs": {"content": [{"token": "M", "top_logprobs": tops}]}}
    endpoint.script = [(200, {}, {"choices": [answer]})]
    assert judge()[0].choose(ASK, ["m", "M"]) == pytest.approx([0.25, 0.75])
    assert endpoint.seen[0][2]["logprobs"] is True and endpoint.seen[0][2]["max_tokens"] == 1
    endpoint.script = [said("m")]
    assert judge()[0].choose(ASK, ["m", "M"]) == [1.0, 0.0], "without log-probabilities the answer decides"
    endpoint.script = [said("neither")]
    with pytest.raises(OddAnswer, match=r"gave an answer that is none of \['m', 'M'\]"):
        judge()[0].choose(ASK, ["m", "M"])


@pytest.mark.parametrize("logprobs", [[1], {"content": [1]}, {"content": [{"top_logprobs": [{"tok": "m"}]}]}, {}])
def test_answers_in_another_form_are_no_crash(endpoint: Endpoint, logprobs):
    endpoint.script = [(200, {}, {"choices": [{"message": {"content": "M"}, "logprobs": logprobs}]})]
    assert judge()[0].choose(ASK, ["m", "M"]) == [0.0, 1.0]
    endpoint.script = [(200, {}, {"choices": [{"message": "M", "logprobs": logprobs}]})]
    with pytest.raises(OddAnswer, match="without text"):
        judge()[0].write(ASK, max_new_tokens=1)


@pytest.mark.parametrize(
    "trouble",
    [
        (429, {}, "busy"),
        (503, {}, "down"),
        (200, {}, "no json"),
        (200, {}, {}),
        (0, {}, None),
        (0, {}, "no HTTP"),
        (200, {"Content-Length": "999"}, "cut of"),
    ],
)
def test_passing_trouble_is_waited_out(endpoint: Endpoint, trouble):
    endpoint.script = [trouble, trouble, said("fine")]
    one, waits = judge()
    assert one.write(ASK, max_new_tokens=1) == "fine" and waits == [1.0, 2.0]


def test_the_server_may_say_how_long_to_wait(endpoint: Endpoint):
    endpoint.script = [(429, {"Retry-After": "7"}, ""), (429, {"Retry-After": "soon"}, ""), said("fine")]
    one, waits = judge()
    one.write(ASK, max_new_tokens=1)
    assert waits == [7.0, 2.0]


def test_a_silent_judge_is_an_error_without_the_key(endpoint: Endpoint, capfd):
    endpoint.script = [(500, {}, f"internal error for {KEY}")]
    with pytest.raises(
        JudgeError, match=r"does not answer \(status 500: internal error for \*\*\*; 3 attempts"
    ) as told:
        judge()[0].write(ASK, max_new_tokens=1)
    assert KEY not in str(told.value) and "what was made is kept" in str(told.value)
    endpoint.script = [(401, {}, f"wrong key {KEY}")]
    one, waits = judge()
    with pytest.raises(JudgeError, match=r"refuses: status 401: wrong key \*\*\*"):
        one.write(ASK, max_new_tokens=1)
    assert not waits, "a refusal is final"
    assert KEY not in "".join(capfd.readouterr())


def test_nobody_at_the_address(monkeypatch):
    monkeypatch.setenv("EBM_JAX_JUDGE_URL", "http://127.0.0.1:9/v1")
    one, waits = judge(retries=1)
    with pytest.raises(JudgeError, match=r"does not answer .*refused"):
        one.write(ASK, max_new_tokens=1)
    assert waits == [1.0]


def test_settings_that_are_missing_or_wrong(monkeypatch):
    for name in ("URL", "KEY", "MODEL"):
        monkeypatch.delenv(f"EBM_JAX_JUDGE_{name}", raising=False)
    assert open_judge("") is None
    with pytest.raises(UserError, match="set EBM_JAX_JUDGE_URL"):
        open_judge("api:critic")
    monkeypatch.setenv("EBM_JAX_JUDGE_URL", "localhost:80")
    with pytest.raises(UserError, match="must start with http"):
        open_judge("api:critic")
    monkeypatch.setenv("EBM_JAX_JUDGE_URL", "http://localhost")
    with pytest.raises(UserError, match="judge=api:MODEL"):
        open_judge("api")
    with pytest.raises(UserError, match="judge='gpt': write api or api:MODEL"):
        open_judge("gpt")
    assert open_judge("api:critic").name == "critic"


def test_a_question_that_is_refused_is_left_out_unless_all_are(endpoint: Endpoint, tmp_path):
    rows = [{"idx": n, "dataset": "d", "instruction": f"Do {n}", "output": "r"} for n in range(5)]
    task = f"alpacaeval={write_rows(tmp_path / 'a.jsonl', rows)}"
    refused, model = (400, {}, "context length exceeded"), FakeModel(lambda prompt, number: "ours")
    endpoint.script = [said("m"), said("M"), refused, said("m")]
    result = run_task(model, make_task(task), tmp_path / "out", TaskOptions(workers=1), judge=judge()[0])
    assert result.problem is None and (result.counts["graded"], result.counts["ungraded"]) == (4, 1)
    grades = [json.loads(line) for line in (tmp_path / "out" / "grades.jsonl").read_text().splitlines()]
    assert "refuses: status 400: context length exceeded" in grades[2]["info"]["reason"]
    endpoint.script = [refused]
    result = run_task(model, make_task(task), tmp_path / "other", TaskOptions(workers=1), judge=judge()[0])
    assert "refuses: status 400" in result.problem and result.counts["graded"] == 0


def test_a_model_here_as_the_judge():
    rate = lambda prompt, text: (math.log({"m": 0.2, "M": 0.6}[text]), 1, False)
    local = LocalJudge(FakeModel(lambda prompt, number: f"heard {prompt}", rate), "ours")
    assert local.write(ASK, max_new_tokens=5) == "heard Rate this."
    assert local.choose(ASK, ["m", "M"]) == pytest.approx([0.25, 0.75])
    never = LocalJudge(FakeModel(rate=lambda prompt, text: (-math.inf, 1, False)), "ours")
    with pytest.raises(OddAnswer, match="any probability"):
        never.choose(ASK, ["m", "M"])


def test_a_question_too_long_for_the_judge_is_one_odd_answer():
    judge = LocalJudge(FakeModel(lambda prompt, number: "[[5]]", longest=5), "small")
    with pytest.raises(OddAnswer, match="the judge small cannot be asked: 10 letters, and the context holds 5"):
        judge.write(ASK, max_new_tokens=4)
    with pytest.raises(OddAnswer, match="11 letters"):
        judge.choose(ASK, ["m", "M"])
