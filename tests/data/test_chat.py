"""Chat templates: rendered as published ones are written, and split into what the assistant says and the rest."""

import json

import pytest

from ebm_jax.data.chat import ChatTemplate, check_messages, open_chat_template
from ebm_jax.data.sources import Part
from ebm_jax.errors import UserError

pytest.importorskip("jinja2")

CHATML = """{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' + message.content | trim + '<|im_end|>' + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""
INSTRUCT = """{{ bos_token }}{% for m in messages %}
{% if m['role'] == 'user' %}
[INST] {{ m['content'] }} [/INST]
{%- elif m['role'] == 'assistant' %}
 {% generation %}{{ m['content'] }}{{ eos_token }}{% endgeneration %}
{%- else %}
{{ raise_exception('only user and assistant speak') }}
{%- endif %}
{% endfor %}"""
TALK = [
    {"role": "user", "content": " Hi? "},
    {"role": "assistant", "content": "Yes."},
    {"role": "user", "content": "Sure?"},
    {"role": "assistant", "content": "No."},
]


def template(source, **special):
    return ChatTemplate(source, special, "here")


def test_a_conversation_and_its_prompt():
    chat = template(CHATML)
    assert chat.render(TALK[:2]) == "<|im_start|>user\nHi?<|im_end|>\n<|im_start|>assistant\nYes.<|im_end|>\n"
    assert chat.prompt(TALK[:1]) == "<|im_start|>user\nHi?<|im_end|>\n<|im_start|>assistant\n"


def test_what_the_assistant_says_is_scored_and_nothing_else():
    assert template(CHATML).parts(TALK) == (
        Part("<|im_start|>user\nHi?<|im_end|>\n<|im_start|>assistant\n", False),
        Part("Yes.<|im_end|>\n", True),
        Part("<|im_start|>user\nSure?<|im_end|>\n<|im_start|>assistant\n", False),
        Part("No.<|im_end|>\n", True),
    )
    after = template(CHATML).parts(TALK[:3])
    assert after[-1] == Part("<|im_start|>user\nSure?<|im_end|>\n", False)


def test_the_last_answer_of_a_template_that_forgets_earlier_thoughts():
    """As Qwen3's does: what is thought is written in the last answer and left out before."""
    kept = "(message.content if loop.last or message.role == 'user' else message.content[-4:])"
    forgets = CHATML.replace("message.content | trim", kept)
    talk = [*TALK[:3], {"role": "assistant", "content": "Hm, hm. No."}]
    chat = template(forgets)
    with pytest.raises(UserError, match="loss=last"):
        chat.parts([TALK[0], {"role": "assistant", "content": "Hm, hm. Yes."}, *talk[2:]])
    prompt, answer = chat.last_part(talk)
    assert prompt == Part(chat.prompt(talk[:3]), False) and answer == Part("Hm, hm. No.<|im_end|>\n", True)
    with pytest.raises(UserError, match="does not end with an assistant message"):
        chat.last_part(talk[:3])
    with pytest.raises(UserError, match=r"writes the prompt otherwise.*loss=full"):
        template("{{ messages | length }}{{ messages[-1].content }}").last_part(talk)


def test_special_tokens_and_generation_blocks():
    chat = template(INSTRUCT, bos_token="<s>", eos_token="</s>")
    assert chat.parts(TALK[:2]) == (Part("<s>[INST]  Hi?  [/INST]", False), Part("Yes.</s>", True))
    with pytest.raises(UserError, match="only user and assistant speak"):
        chat.render([{"role": "system", "content": "x"}])


def test_refused():
    forgetful = "{% for m in messages %}{{ m.content if loop.last else '(gone)' }};{% endfor %}"
    with pytest.raises(UserError, match=r"writes a conversation otherwise.*loss=last or full"):
        template(forgetful).parts(TALK)
    with pytest.raises(UserError, match="no assistant message"):
        template(CHATML).parts(TALK[:1])
    with pytest.raises(UserError, match="here is not valid Jinja"):
        template("{% for %}").render(TALK)
    with pytest.raises(UserError, match=r"fails on a conversation.*undefined"):
        template("{{ strftime_now('%d') }}").render(TALK)


def test_a_template_reaches_nothing_outside_the_sandbox():
    for attack in ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "{{ messages.append(1) }}"):
        with pytest.raises(UserError, match="fails on a conversation"):
            template(attack).render(TALK)


def test_json_is_not_escaped_for_html():
    assert template("{{ messages | tojson }}").render([{"role": "user", "content": "<é>"}]).endswith('"<é>"}]')


@pytest.mark.parametrize("kind", ["jinja", "config", "named"])
def test_found_beside_the_tokenizer(tmp_path, kind):
    settings = {"bos_token": {"content": "<s>"}, "eos_token": "</s>"}
    if kind == "jinja":
        (tmp_path / "chat_template.jinja").write_text(INSTRUCT)
    else:
        named = [{"name": "tools", "template": "no"}, {"name": "default", "template": INSTRUCT}]
        settings["chat_template"] = INSTRUCT if kind == "config" else named
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    chat = open_chat_template(f"hf:{tmp_path}/tokenizer.json")
    assert chat.prompt(TALK[:1]) == "<s>[INST]  Hi?  [/INST]"
    assert chat.fingerprint == template(INSTRUCT, bos_token="<s>", eos_token="</s>").fingerprint


def test_given_as_a_file_or_missing(tmp_path):
    (tmp_path / "mine.jinja").write_text("{{ messages[0].content }}")
    assert open_chat_template("bytes", str(tmp_path / "mine.jinja")).render(TALK) == " Hi? "
    with pytest.raises(UserError, match=r"no chat template.*data\.examples\.chat_template"):
        open_chat_template(f"hf:{tmp_path}/tokenizer.json")
    with pytest.raises(UserError, match=r"no\.jinja cannot be read"):
        open_chat_template("bytes", str(tmp_path / "no.jinja"))


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("hello", "a str, not a list of messages"),
        ([], "a list, not a list of messages"),
        (["hello"], "message 1 is a str, not an object"),
        ([{"role": "user"}], "message 1 has no 'content' that is a string"),
        ([*TALK, {"role": None, "content": "x"}], "message 5 has no 'role'"),
    ],
)
def test_malformed_conversations(value, told):
    with pytest.raises(UserError, match=f"file: line 3: {told}"):
        check_messages(value, "file: line 3")


def test_templates_are_told_that_there_are_no_tools():
    source = "{% if tools is not none or documents is not none %}TOOLS {% endif %}{{ messages[0].content }}"
    assert template(source).render(TALK[:1]) == TALK[0]["content"]
