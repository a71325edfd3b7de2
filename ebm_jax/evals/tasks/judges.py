"""Judges: a model that runs here, or a chat endpoint that speaks the widely used ``/chat/completions`` protocol.

An endpoint is read from the environment::

    EBM_JAX_JUDGE_URL    its base address, such as http://localhost:8000/v1 (``/chat/completions`` is added)
    EBM_JAX_JUDGE_KEY    the key that goes into the Authorization header, where it wants one
    EBM_JAX_JUDGE_MODEL  the model's name, unless the user names one

The key is read when a request is sent, goes nowhere but into that header, and no message shows it. A request that finds
nobody, times out or is told to wait (status 408, 409, 425, 429 and 5xx) is sent again after 1, 2, 4 ... seconds, or
after what ``Retry-After`` says. A question that is refused as such (400, 413, 422: too long for the judge, or nothing that it
talks about) is left out; any other refusal is final. Then ``JudgeError`` says so and the caller keeps what it has.
"""

import http.client
import json
import math
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ebm_jax.errors import UserError
from ebm_jax.evals.tasks.protocol import Message, Model, Prompt

URL_VARIABLE = "EBM_JAX_JUDGE_URL"
KEY_VARIABLE = "EBM_JAX_JUDGE_KEY"
MODEL_VARIABLE = "EBM_JAX_JUDGE_MODEL"
_AGAIN = {408, 409, 425, 429}
_THIS_QUESTION = {400, 413, 422}
_LONGEST_WAIT = 60.0


class JudgeError(UserError):
    """The judge does not answer: there is no use in asking on."""


class OddAnswer(UserError):
    """The judge answered one question in a form that says nothing; the next one may go better."""


class Refusal(OddAnswer):
    """The judge does not take a question; where it takes none, its settings are wrong."""


class LocalJudge:
    """A model that runs here as the judge."""

    at_once = False

    def __init__(self, model: Model, name: str) -> None:
        self._model, self.name = model, name

    def write(self, messages: Sequence[Message], *, max_new_tokens: int, temperature: float = 0.0) -> str:
        """What the model goes on with."""
        prompt = self._prompt(messages)
        found = self._model.generate(
            [prompt],
            samples=1,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_p=1.0,
            top_k=0,
            min_p=0.0,
            stop=(),
            seed=0,
        )
        return found[0][0].text

    def choose(self, messages: Sequence[Message], choices: Sequence[str]) -> list[float]:
        """The likelihoods of the choices, made to sum to one."""
        prompt = self._prompt(messages, max(choices, key=len))
        nats = [one.nats for one in self._model.log_likelihood([(prompt, choice) for choice in choices])]
        if not any(math.isfinite(value) for value in nats):
            raise OddAnswer(f"the judge {self.name} gives none of {list(choices)} any probability")
        return _normalised([math.exp(value - max(nats)) for value in nats])

    def _prompt(self, messages: Sequence[Message], continuation: str | None = None) -> Prompt:
        prompt = Prompt(messages=tuple(messages))
        if reason := self._model.misfit(prompt, continuation):
            raise Refusal(f"the judge {self.name} cannot be asked: {reason}")
        return prompt


class EndpointJudge:
    """A chat endpoint as the judge; see the module for its settings."""

    at_once = True

    def __init__(
        self,
        model: str = "",
        *,
        url: str = "",
        timeout: float = 120.0,
        retries: int = 5,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        """``retries`` further attempts are made, each given ``timeout`` seconds; ``wait`` sleeps between them."""
        address = url or os.environ.get(URL_VARIABLE, "")
        self.name = model or os.environ.get(MODEL_VARIABLE, "")
        if not address:
            raise UserError(f"a judge's endpoint needs its address: set {URL_VARIABLE}, for example to http://HOST/v1")
        if not address.startswith(("http://", "https://")):
            raise UserError(f"{URL_VARIABLE} must start with http:// or https://")
        if not self.name:
            raise UserError(f"a judge's endpoint needs a model's name: write judge=api:MODEL or set {MODEL_VARIABLE}")
        self._url = address.rstrip("/").removesuffix("/chat/completions") + "/chat/completions"
        self._timeout, self._retries, self._wait = timeout, retries, wait

    def write(self, messages: Sequence[Message], *, max_new_tokens: int, temperature: float = 0.0) -> str:
        """The text of the endpoint's answer."""
        choice = self._ask({"messages": list(messages), "max_tokens": max_new_tokens, "temperature": temperature})
        if (text := _text(choice)) is None:
            raise self._odd("an answer without text")
        return text

    def choose(self, messages: Sequence[Message], choices: Sequence[str]) -> list[float]:
        """Probabilities by the first token's log-probabilities; where the endpoint gives none, its answer decides alone."""
        asked = {"messages": list(messages), "max_tokens": 1, "temperature": 1.0, "logprobs": True, "top_logprobs": 5}
        choice = self._ask(asked)
        try:
            weights = _first_token(choice, choices)
        except (AttributeError, KeyError, IndexError, TypeError, ValueError):  # none, or in some other form
            weights = [0.0] * len(choices)
        if sum(weights) == 0:
            text = (_text(choice) or "").strip()
            weights = [float(text.startswith(name)) for name in choices]
        if sum(weights) == 0:
            raise self._odd(f"an answer that is none of {list(choices)}")
        return _normalised(weights)

    def _ask(self, body: dict[str, Any]) -> dict[str, Any]:
        sent = json.dumps({"model": self.name, **body}).encode()
        reason = ""
        for attempt in range(self._retries + 1):
            pause = min(2.0**attempt, _LONGEST_WAIT)
            try:
                with urllib.request.urlopen(self._request(sent), timeout=self._timeout) as answer:
                    return self._first_choice(answer.read())
            except urllib.error.HTTPError as error:
                said = self._without_key(error.read(2000).decode("utf-8", "replace")).strip()
                reason = f"status {error.code}" + (f": {said[:300]}" if said else "")
                if error.code not in _AGAIN and error.code < 500:
                    kind = Refusal if error.code in _THIS_QUESTION else JudgeError
                    raise kind(f"the judge {self.name} at {self._url} refuses: {reason}") from None
                pause = _seconds(error.headers.get("Retry-After")) or pause
            except (OSError, ValueError, http.client.HTTPException) as error:  # nobody, a timeout, a broken answer
                reason = self._without_key(str(getattr(error, "reason", None) or error) or type(error).__name__)
            if attempt < self._retries:
                self._wait(pause)
        raise JudgeError(
            f"the judge {self.name} at {self._url} does not answer ({reason}; {self._retries + 1} attempts): see whether "
            "it runs, then start the same evaluation again; what was made is kept"
        )

    def _request(self, sent: bytes) -> urllib.request.Request:
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(KEY_VARIABLE):
            headers["Authorization"] = f"Bearer {key}"
        return urllib.request.Request(self._url, data=sent, headers=headers, method="POST")

    def _first_choice(self, raw: bytes) -> dict[str, Any]:
        try:
            return dict(json.loads(raw)["choices"][0])
        except (ValueError, KeyError, IndexError, TypeError):
            raise ValueError("an answer that is no chat completion") from None

    def _odd(self, what: str) -> OddAnswer:
        return OddAnswer(f"the judge {self.name} at {self._url} gave {what}")

    @staticmethod
    def _without_key(text: str) -> str:
        key = os.environ.get(KEY_VARIABLE)
        return text.replace(key, "***") if key else text


def _text(choice: Mapping[str, Any]) -> str | None:
    message = choice.get("message")
    text = message.get("content") if isinstance(message, dict) else None
    return text if isinstance(text, str) else None


def _first_token(choice: Mapping[str, Any], names: Sequence[str]) -> list[float]:
    """The probability of each name as the first token, by the endpoint's log-probabilities."""
    weights = [0.0] * len(names)
    for token in choice["logprobs"]["content"][0]["top_logprobs"]:
        for place, name in enumerate(names):
            if token["token"].strip() == name:
                weights[place] += math.exp(token["logprob"])
    return weights


def open_judge(name: str) -> EndpointJudge | None:
    """The judge a user names: nothing, ``api`` or ``api:MODEL``."""
    if not name:
        return None
    kind, _, model = name.partition(":")
    if kind != "api":
        raise UserError(f"judge={name!r}: write api or api:MODEL for an endpoint, or nothing for no judge")
    return EndpointJudge(model)


def _normalised(weights: Sequence[float]) -> list[float]:
    total = sum(weights)
    return [weight / total for weight in weights]


def _seconds(value: str | None) -> float | None:
    try:
        return min(max(float(value or ""), 0.0), _LONGEST_WAIT)
    except ValueError:
        return None
