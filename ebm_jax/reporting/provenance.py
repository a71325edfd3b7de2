"""How it was made: commands, code, versions, devices, the settings in which runs differ, seconds by phase."""

import json
import shlex
from collections.abc import Sequence
from typing import Any

from ebm_jax.reporting import markup
from ebm_jax.reporting.headline import data_note
from ebm_jax.reporting.markup import Html, Row, tag
from ebm_jax.reporting.numbers import MISSING, duration
from ebm_jax.reporting.runs import Run
from ebm_jax.serialize import ABSENT, flatten


def section(runs: Sequence[Run]) -> Html:
    """All of it; what is not recorded is left out."""
    parts = [_launches(runs), data_note(runs), _seconds(runs), _versions(runs), _differences(runs), _configs(runs)]
    return markup.section("made", "How it was made", *parts) if any(parts) else Html()


def command_line(command: Sequence[str]) -> str:
    """A recorded command as one can type it; a config file alone is what ``experiments.pretrain`` was given."""
    words = [str(word) for word in command]
    prefix = "python -m experiments.pretrain " if words and words[0].endswith(".py") else ""
    return prefix + shlex.join(words)


def _launches(runs: Sequence[Run]) -> Html:
    shown = []
    for run in runs:
        for launch in run.launches:
            at = launch.get("resumed_at")
            words = [launch.get("start"), "resumed at step " + str(at) if at is not None else None, _code(launch)]
            told = "; ".join(str(word) for word in [*words, _device(launch)] if word)
            command = command_line(launch.get("command") or [])
            body = [tag("b", run.label), " ", markup.muted(told)]
            shown.append(tag("div", *body, *([tag("pre", command)] if command else []), class_="launch"))
    return markup.join(shown)


def _code(launch: dict[str, Any]) -> str | None:
    git = launch.get("git")
    if not isinstance(git, dict) or not git.get("commit"):
        return None
    return f"commit {str(git['commit'])[:12]}" + (", with uncommitted changes" if git.get("dirty") else "")


def _device(launch: dict[str, Any]) -> str | None:
    devices, host = launch.get("devices") or {}, launch.get("host") or {}
    words = [f"{devices.get('count', 1)} × {devices['kind']}" if devices.get("kind") else "", host.get("system") or ""]
    return ", ".join(filter(None, words)) or None


def _seconds(runs: Sequence[Run]) -> Html:
    phases = list(dict.fromkeys(phase for run in runs for phase in run.seconds))
    if not phases:
        return Html()
    rows = [
        Row(phase, [duration(run.seconds[phase]) if phase in run.seconds else MISSING for run in runs])
        for phase in phases
    ]
    caption = "Time by phase; training steps are without compilation, evaluations and checkpoints."
    return markup.table(["", *(run.label for run in runs)], rows, caption)


def _versions(runs: Sequence[Run]) -> Html:
    found = [run.launches[-1].get("versions") or {} if run.launches else {} for run in runs]
    names = list(dict.fromkeys(name for versions in found for name in versions))
    if not names:
        return Html()
    distinct = {name: list(dict.fromkeys(v[name] for v in found if name in v)) for name in names}
    rows = [Row(name, [" / ".join(versions)]) for name, versions in distinct.items()]
    return markup.details("Versions", markup.table(["package", "version"], rows, text_columns=True))


def _differences(runs: Sequence[Run]) -> Html:
    flat = [flatten(run.config) for run in runs if run.config]
    if len(flat) < 2:
        return Html()
    keys = list(dict.fromkeys(key for config in flat for key in config))
    parts = list(dict.fromkeys(key.partition(".")[0] for key in keys))
    keys.sort(key=lambda key: parts.index(key.partition(".")[0]))
    rows = [
        Row(key, [_value(config.get(key, ABSENT)) for config in flat])
        for key in keys
        if len({_value(config.get(key, ABSENT)) for config in flat}) > 1
    ]
    if not rows:
        return Html()
    head = ["setting", *(run.label for run in runs if run.config)]
    table = markup.table(head, rows, "All other settings are equal.", text_columns=True)
    return markup.details("Settings in which the runs differ", table)


def _configs(runs: Sequence[Run]) -> Html:
    shown = [
        markup.details(f"All settings of {run.label}", tag("pre", json.dumps(run.config, indent=2), class_="config"))
        for run in runs
        if run.config
    ]
    return markup.join(shown)


def _value(value: Any) -> str:
    return MISSING if value == ABSENT else value if isinstance(value, str) else json.dumps(value)
