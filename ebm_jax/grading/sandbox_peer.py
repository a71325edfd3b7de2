"""Calls between two processes that need not trust each other: each asks the other to act on the other's objects.

Plain data goes by value (``sandbox_codec``), any other object as a number that means something to its owner alone. While
one side waits for an answer it serves the other's requests, so functions may be passed as arguments. What a side lets
the other do with its objects is its own choice, a function given to ``Peer``.
"""

import builtins
import os
import struct
import types
from collections.abc import Callable
from typing import Any

from ebm_jax.grading import sandbox_codec as codec
from ebm_jax.grading.sandbox_remote import Remote, RemoteCallable

_LENGTH = struct.Struct(">Q")
_MUTABLE = (list, dict, set, bytearray)

Serve = Callable[["Peer", str, Any, list[Any]], Any]


class PeerGone(BaseException):
    """The other process ended, or broke the rules of the exchange: ``except Exception`` must not hide this."""


class TooMuch(PeerGone):
    """The other process sent a longer message than allowed."""


class Peer:
    """One end of the exchange over two pipes."""

    def __init__(self, incoming: int, outgoing: int, serve: Serve, largest: int):
        self._incoming, self._outgoing = incoming, outgoing
        self._serve, self._largest = serve, largest
        self._objects: list[Any] = []
        self._numbers: dict[int, int] = {}
        self.gone = False
        """Whether a PeerGone was raised, even if something swallowed it."""
        self.exceptions: dict[int, type[BaseException]] = {}
        """Local stand-ins for the other side's exception classes, by their number there."""

    # What crosses.

    def _export(self, value: Any) -> dict[str, Any]:
        if isinstance(value, Remote):
            return {"mine": value._number_}
        if isinstance(value, types.ModuleType):
            raise TypeError("a module cannot be passed between the tests and the code")
        number = self._numbers.get(id(value))
        if number is None:
            number = self._numbers[id(value)] = len(self._objects)
            self._objects.append(value)  # kept for the sample's life, so its address stays its own
        return {"theirs": [number, callable(value), type(value).__name__]}

    def _resolve(self, tag: str, body: Any) -> Any:
        if tag == "mine" and type(body) is int and 0 <= body < len(self._objects):
            return self._objects[body]
        if tag == "theirs":
            number, is_callable, name = body
            if type(number) is int and type(name) is str:
                return (RemoteCallable if is_callable else Remote)(self, number, name[:100])
        raise codec.CodecError(f"unknown tag {tag!r}"[:100])

    def _send(self, message: list[Any]) -> None:
        data = codec.encode(message, self._export)
        view = memoryview(_LENGTH.pack(len(data)) + data)
        try:
            while view:
                view = view[os.write(self._outgoing, view) :]
        except OSError:
            raise self._lost(PeerGone, "the other process ended") from None

    def _read(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            piece = os.read(self._incoming, min(count - len(data), 1 << 20))
            if not piece:
                raise self._lost(PeerGone, "the other process ended")
            data += piece
        return bytes(data)

    def _receive(self) -> tuple[str, list[Any]]:
        (length,) = _LENGTH.unpack(self._read(_LENGTH.size))
        if length > self._largest:
            raise self._lost(TooMuch, f"a value of {length} bytes is over the limit of {self._largest}")
        data = self._read(length)
        try:
            message = codec.decode(data, self._resolve)
        except codec.CodecError as error:
            raise self._lost(PeerGone, str(error)) from None
        if type(message) is not list or not message or type(message[0]) is not str:
            raise self._lost(PeerGone, "a message that is no request and no answer")
        return message[0], message[1:]

    def _lost(self, kind: type[PeerGone], text: str) -> PeerGone:
        self.gone = True
        return kind(text)

    # What happens.

    def request(self, action: str, target: Any, *operands: Any) -> Any:
        """Has the other side act on ``target``, one of its objects, and returns the value or raises what it raised."""
        self._send(["do", action, target, list(operands)])
        changing = [item for item in operands[0] if type(item) in _MUTABLE] if action == "call" else []
        while True:
            kind, body = self._receive()
            if kind == "do" and len(body) == 3:
                self._answer(body)
            elif kind == "value" and len(body) == 2 and type(body[1]) is list:
                for before, after in zip(changing, body[1], strict=False):
                    refresh(before, after)
                return body[0]
            elif kind == "error" and len(body) == 2:
                raise self._raised(body[0], body[1])
            else:
                raise self._lost(PeerGone, "a message that is no request and no answer")

    def serve_forever(self) -> None:
        """Answers requests until the other side goes."""
        while True:
            kind, body = self._receive()
            if kind != "do" or len(body) != 3:
                raise self._lost(PeerGone, "a message that is no request")
            self._answer(body)

    def _answer(self, body: list[Any]) -> None:
        action, target, operands = body
        if type(action) is not str or type(operands) is not list:
            raise self._lost(PeerGone, "a request that names no action")
        try:
            value = self._serve(self, action, target, operands)
            changed = [item for item in operands[0] if type(item) in _MUTABLE] if action == "call" else []
            self._send(["value", value, changed])
        except PeerGone:
            raise
        except BaseException as error:
            self._send(["error", *self._describe(error)])

    # Exceptions, by the names of their classes.

    def _describe(self, error: BaseException) -> list[Any]:
        lineage = [
            [kind.__name__, -1 if kind.__module__ == "builtins" else self._export(kind)["theirs"][0]]
            for kind in type(error).__mro__[:-1]
        ]
        try:
            codec.encode(list(error.args), self._refuse)
            return [lineage, list(error.args)]
        except (codec.CodecError, TypeError, ValueError):
            return [lineage, [_text(error)]]

    @staticmethod
    def _refuse(value: Any) -> dict[str, Any]:
        raise TypeError

    def _raised(self, lineage: Any, arguments: Any) -> BaseException:
        """The exception to raise here: of a stand-in class, else of the nearest built-in one."""
        try:
            names = [str(name) for name, _ in lineage]
            for name, number in lineage:
                kind = self.exceptions.get(number) if number >= 0 else getattr(builtins, name, None)
                if isinstance(kind, type) and issubclass(kind, BaseException):
                    break
            else:
                kind = Exception
            error = kind(*arguments)
        except Exception:  # the code's own class may refuse its arguments: what was raised is told all the same
            names, error = ["Exception"], Exception(str(arguments)[:1000])
        error.raised_by_code = names[0]
        return error


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # the code's own __str__ may fail
        return ""


def refresh(before: Any, after: Any) -> None:
    """Makes a container equal to what the other side made of its copy, keeping the identity of what it holds."""
    if type(before) is not type(after):
        return
    if type(before) is list:
        before[:] = [_kept(old, after[i]) if i < len(after) else old for i, old in enumerate(before)][: len(after)]
        before.extend(after[len(before) :])
    elif type(before) is dict:
        renewed = {key: _kept(before[key], value) if key in before else value for key, value in after.items()}
        before.clear()
        before.update(renewed)
    elif type(before) is set:
        before.clear()
        before.update(after)
    elif type(before) is bytearray:
        before[:] = after


def _kept(old: Any, new: Any) -> Any:
    if type(old) in _MUTABLE and type(old) is type(new):
        refresh(old, new)
        return old
    return new
