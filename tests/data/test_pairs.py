"""Pairs: read in each of their forms, whole in one row, and nothing that compares nothing."""

import numpy as np
import pytest

from ebm_jax.data.example_config import ExamplesConfig
from ebm_jax.data.pairs import Pairs
from ebm_jax.errors import UserError
from tests.data.test_chat import CHATML
from tests.data.test_examples import all_rows, config, loaded


def dialogue(answer, question="Why?"):
    return f"\n\nHuman: {question}\n\nAssistant: Well.\n\nHuman: And?\n\nAssistant:{answer}"


ROWS = [
    {"chosen": dialogue(" Good."), "rejected": dialogue(" Bad.")},
    {"chosen": dialogue(" Same."), "rejected": dialogue(" Same.")},
    {"chosen": dialogue(" Good."), "rejected": dialogue(" Bad.", question="What?")},
    {"chosen": dialogue(" Yes.", "Who?"), "rejected": dialogue("", "Who?")},
]


def pairs_config(tmp_path, rows=ROWS, **changes):
    settings = {"examples": ExamplesConfig(), "context": 160, "layout": "packed"}
    return config(tmp_path, rows, "pairs", **settings | changes)


def test_dialogues_are_split_at_the_last_answer(tmp_path):
    source = Pairs(pairs_config(tmp_path))
    pairs = list(source.pairs())
    assert [(pair.key, pair.file, pair.chosen, pair.rejected) for pair in pairs] == [
        ("rows.jsonl:1", "rows.jsonl", " Good.", " Bad."),
        ("rows.jsonl:4", "rows.jsonl", " Yes.", ""),
    ]
    assert pairs[0].prompt == dialogue("")
    assert source.left_out == {"equal texts": 1, "prompts that differ": 1}
    better, worse = pairs[0].documents()
    assert (better.text, worse.text) == (ROWS[0]["chosen"], ROWS[0]["rejected"])
    assert better.split_key == worse.split_key == dialogue("")


def test_both_answers_end_with_what_they_are_judged_by(tmp_path):
    examples = ExamplesConfig(ending="\n\nJudged {by}: {file}")
    rows = [row | {"by": n} for n, row in enumerate(ROWS)]
    first, second = Pairs(pairs_config(tmp_path, rows, examples=examples)).pairs()
    assert (first.chosen, first.rejected) == (" Good.\n\nJudged 0: rows", " Bad.\n\nJudged 0: rows")
    assert second.rejected == "\n\nJudged 3: rows" and first.prompt == dialogue("")
    with pytest.raises(UserError, match=r"line 1: no field 'who', only \['chosen', 'file', 'rejected'\]"):
        list(Pairs(pairs_config(tmp_path, examples=ExamplesConfig(ending="{who}"))).pairs())


def test_both_texts_lie_whole_in_one_row(tmp_path, caplog):
    data = loaded(pairs_config(tmp_path, append_eos=True))
    assert caplog.messages == ["left out: 1 pairs with equal texts, 1 pairs with prompts that differ"]
    batch = all_rows(data)
    texts = []
    for row in range(len(batch["inputs"])):
        for segment in range(1, batch["segments"][row].max() + 1):
            inside = batch["segments"][row] == segment
            ids = batch["inputs"][row][inside]
            assert ids[-1] == data.tokenizer.eos_id, "the last token is read, too"
            assert np.array_equal(batch["positions"][row][inside], np.arange(len(ids)))
            texts.append(data.tokenizer.decode(ids))
    assert len(texts) == 4
    for better, worse in zip(texts[::2], texts[1::2], strict=True):
        assert {"chosen": better, "rejected": worse} in ROWS
    assert np.array_equal(batch["weights"], batch["segments"] > 0)


def test_several_pairs_share_a_row(tmp_path):
    data = loaded(pairs_config(tmp_path, context=320))
    batch = all_rows(data)
    assert batch["segments"].shape[0] == 1 and batch["segments"].max() == 4
    assert data.describe() == "train 2 pairs in 1 rows"


def test_a_pair_goes_as_a_whole(tmp_path):
    rows = [*ROWS, {"chosen": dialogue(" Long" * 20, "How?"), "rejected": dialogue(" Short.", "How?")}]
    data = loaded(pairs_config(tmp_path, rows))
    assert data.stats["train"].overlong == 2 and all_rows(data)["segments"].max() <= 2
    assert data.describe() == "train 3 pairs in 2 rows, 2 texts of over 80 tokens left out"
    two = loaded(pairs_config(tmp_path, rows, max_documents=1))
    assert two.stats["train"].documents == 2


def test_answers_to_a_prompt_and_chats(tmp_path):
    rows = [{"question": "1+1", "good": "2", "bad": "3"}]
    options = {"chosen": "good", "rejected": "bad", "separator": None, "prompt": "Q {question} A "}
    (pair,) = Pairs(pairs_config(tmp_path, rows, examples=ExamplesConfig(**options))).pairs()
    assert pair[2:5] == ("Q 1+1 A ", "2", "3")
    pytest.importorskip("jinja2")
    (tmp_path / "chat.jinja").write_text(CHATML)
    say = lambda text: [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": text}]
    examples = ExamplesConfig(chat_template=str(tmp_path / "chat.jinja"))
    (pair,) = Pairs(pairs_config(tmp_path, [{"chosen": say("a"), "rejected": say("b")}], examples=examples)).pairs()
    assert pair[3:5] == ("a<|im_end|>\n", "b<|im_end|>\n") and pair.prompt.endswith("<|im_start|>assistant\n")


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"chosen": "a"}, r"line 2: field 'chosen' holds no '\\n\\nAssistant:'"),
        ({"chosen": dialogue("a")}, "line 2: no field 'rejected', only"),
        ({"chosen": dialogue("a"), "rejected": 3}, "line 2: field 'rejected' holds int 3, not a string"),
        ({"chosen": [], "rejected": []}, "line 2: field 'chosen': a list, not a list of messages"),
    ],
)
def test_malformed_rows_name_file_and_line(tmp_path, row, told):
    with pytest.raises(UserError, match=rf"rows\.jsonl: {told}"):
        list(Pairs(pairs_config(tmp_path, [ROWS[0], row])).pairs())


def test_an_answer_alone_has_its_prompt_in_a_field_of_its_own(tmp_path):
    pytest.importorskip("jinja2")
    (tmp_path / "chat.jinja").write_text(CHATML)
    examples = ExamplesConfig(chat_template=str(tmp_path / "chat.jinja"))
    asked = [{"role": "user", "content": "Why?"}]
    sides = {name: [{"role": "assistant", "content": text}] for name, text in (("chosen", "Yes."), ("rejected", "No."))}
    whole = {name: [*asked, *side] for name, side in sides.items()}
    rows = [{"prompt": asked, **sides}, {"prompt": "Why?", **sides}, whole]
    pairs = list(Pairs(pairs_config(tmp_path, rows, examples=examples)).pairs())
    assert len(pairs) == 3 and len({(pair.prompt, pair.chosen, pair.rejected) for pair in pairs}) == 1
    assert pairs[0].prompt == "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"
    for row, said in [
        (sides, "line 1: field 'chosen' is an answer alone and there is no field 'prompt'"),
        ({"chosen": asked, "rejected": asked}, "line 1: field 'chosen' does not end with what the assistant says"),
        ({"prompt": [1], **sides}, "line 1: field 'prompt': message 1 is a int"),
    ]:
        with pytest.raises(UserError, match=said):
            list(Pairs(pairs_config(tmp_path, [row], examples=examples)).pairs())


def test_a_chat_that_its_template_refuses_is_named_by_its_line(tmp_path):
    pytest.importorskip("jinja2")
    (tmp_path / "chat.jinja").write_text("{{ raise_exception('no systems') }}")
    examples = ExamplesConfig(chat_template=str(tmp_path / "chat.jinja"))
    talk = [{"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}]
    with pytest.raises(
        UserError, match=r"rows\.jsonl: line 1: the chat template .* fails on a conversation: no systems"
    ):
        list(Pairs(pairs_config(tmp_path, [{"chosen": talk, "rejected": talk}], examples=examples)).pairs())
