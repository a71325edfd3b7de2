"""Examples: which tokens are scored, that none is cut, and what is said of rows that are none."""

import dataclasses
import itertools
import json

import numpy as np
import pytest

from ebm_jax.data import DataConfig, load_data
from ebm_jax.data.encoding import Encoded, encode_documents, framed
from ebm_jax.data.example_config import ExamplesConfig
from ebm_jax.data.packing import Whole, build_whole_table
from ebm_jax.data.rows import Rows
from ebm_jax.data.sources import Document, Part, open_source
from ebm_jax.data.tokenizers import ByteTokenizer
from ebm_jax.errors import UserError
from tests.data.test_chat import CHATML, TALK

QUESTION = ExamplesConfig(prompt="Q: {question}\n", completion="A: {answer[0]}")


def write(path, rows):
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def config(tmp_path, rows, kind="sft", **changes):
    path = write(tmp_path / "rows.jsonl", rows)
    settings = {"source": f"{kind}:{path}", "context": 24, "cache_dir": str(tmp_path / "cache"), "examples": QUESTION}
    return DataConfig(**(settings | {"validation_fraction": 0.0, "test_fraction": 0.0, "layout": "truncate"} | changes))


def loaded(config):
    pytest.importorskip("tensorflow_datasets")
    pytest.importorskip("array_record")
    return load_data(config, batch_size=1)


def all_rows(data, split="train"):
    return data.rows[split].gather(np.arange(len(data.rows[split])))


def test_of_a_question_its_answer_is_scored_token_by_token(tmp_path):
    data = loaded(config(tmp_path, [{"question": "1+1", "answer": [2]}], append_eos=True))
    batch = {name: array[0] for name, array in all_rows(data).items()}
    text = b"Q: 1+1\nA: 2\0"
    n = len(text) - 1
    assert bytes(batch["inputs"][:n].astype(np.uint8)) == text[:-1]
    assert bytes(batch["targets"][:n].astype(np.uint8)) == text[1:]
    # The newline ends the prompt: what it predicts, "A", is the completion's first token; the end of the text is its last.
    assert batch["weights"].tolist() == [0] * 6 + [1, 1, 1, 1, 1] + [0] * 13
    assert batch["segments"].tolist() == [1] * n + [0] * (24 - n)
    assert batch["positions"].tolist() == [*range(n)] + [0] * (24 - n)
    assert data.stats["train"].bytes == n


def test_special_tokens_that_a_template_has_written_are_not_doubled():
    class Two(ByteTokenizer):
        bos_id, eos_id = 1, 2

    flags = np.array([False, True, True])
    written = framed(Encoded(np.array([1, 65, 2]), flags), Two(), begin=True, end=True)
    assert written.tokens.tolist() == [1, 65, 2] and written.scored.tolist() == flags.tolist()
    bare = framed(Encoded(np.array([65, 66, 67]), flags), Two(), begin=True, end=True)
    assert bare.tokens.tolist() == [1, 65, 66, 67, 2] and bare.scored.tolist() == [False, *flags, True]
    plain = framed(Encoded(np.array([1, 65, 2]), None), Two(), begin=True, end=True)
    assert plain.tokens.tolist() == [1, 1, 65, 2, 2], "a text that is no example may hold what it likes"


def test_all_is_scored_with_the_full_loss(tmp_path):
    full = ExamplesConfig(prompt=QUESTION.prompt, completion=QUESTION.completion, loss="full")
    data = loaded(config(tmp_path, [{"question": "1+1", "answer": [2]}], append_eos=True, examples=full))
    assert all_rows(data)["weights"][0].tolist() == [1] * 11 + [0] * 13


def test_chats_are_scored_where_the_assistant_speaks(tmp_path):
    pytest.importorskip("jinja2")
    (tmp_path / "chat.jinja").write_text(CHATML)
    examples = ExamplesConfig(messages="talk", chat_template=str(tmp_path / "chat.jinja"))
    data = loaded(config(tmp_path, [{"talk": TALK}], context=256, examples=examples))
    batch = all_rows(data)
    scored = batch["targets"][0][batch["weights"][0] > 0]
    assert data.tokenizer.decode(scored) == "Yes.<|im_end|>\nNo.<|im_end|>\n"
    last = dataclasses.replace(examples, loss="last")
    batch = all_rows(loaded(config(tmp_path, [{"talk": TALK}], context=256, examples=last)))
    assert data.tokenizer.decode(batch["targets"][0][batch["weights"][0] > 0]) == "No.<|im_end|>\n"


def documents(lengths):
    ends = np.cumsum(lengths)
    return [np.arange(end - length, end) + 1 for end, length in zip(ends, lengths, strict=True)]


def test_packed_examples_are_whole_and_scored_as_they_are_alone():
    lengths = [3, 9, 5, 2, 7, 10, 4, 9, 11, 1]
    texts, rng = documents(lengths), np.random.default_rng(0)
    scored = [rng.integers(0, 2, length).astype(bool) for length in lengths]
    whole = Whole(longest=10, overlong="drop")
    rows = {
        layout: Rows.from_documents(texts, context=16, layout=layout, scored=scored, whole=whole)
        for layout in ("packed", "truncate")
    }
    assert len(rows["packed"]) < len(rows["truncate"]) == 8  # eleven tokens are too long, one predicts nothing
    assert rows["packed"].fingerprint != rows["truncate"].fingerprint
    seen = {}
    for layout, part in rows.items():
        batch = part.gather(np.arange(len(part)))
        found = []
        for row in range(len(part)):
            for segment in range(1, batch["segments"][row].max() + 1):
                inside = batch["segments"][row] == segment
                found.append(tuple(tuple(batch[name][row][inside].tolist()) for name in batch))
        seen[layout] = sorted((inputs, targets, weights, positions) for inputs, targets, weights, _, positions in found)
    assert seen["packed"] == seen["truncate"]
    for text, flags in zip(texts, scored, strict=True):
        if 2 <= len(text) <= 10:
            inputs, targets, weights, positions = next(s for s in seen["packed"] if s[0][0] == text[0])
            assert (
                inputs == tuple(text[:-1]) and targets == tuple(text[1:]) and positions == tuple(range(len(text) - 1))
            )
            assert weights == tuple(flags[1:].astype(float))


@pytest.mark.parametrize(("overlong", "first", "size"), [("cut_end", 1, 5), ("cut_start", 4, 5)])
def test_overlong_examples_are_cut_only_where_it_is_asked_for(overlong, first, size):
    rows = Rows.from_documents(documents([9]), context=16, whole=Whole(longest=6, overlong=overlong))
    batch = rows.gather(np.array([0]))
    assert batch["inputs"][0].tolist() == [*range(first, first + size)] + [0] * (16 - size)


def test_what_is_too_long_is_counted_and_said(tmp_path):
    rows = [{"question": "1" * n, "answer": ["2"]} for n in (1, 2, 3, 30)]
    data = loaded(config(tmp_path, rows))
    assert data.stats["train"].overlong == 1 and data.stats["train"].rows == 3
    assert data.describe() == "train 4 examples in 3 rows, 1 texts of over 25 tokens left out"
    cut = loaded(config(tmp_path, rows, examples=ExamplesConfig(**{**vars(QUESTION), "overlong": "cut_end"})))
    assert len(cut.rows["train"]) == 4 and "1 texts of over 25 tokens cut (cut_end)" in cut.describe()
    assert cut.describe().endswith(", 1 of them with nothing left to score")


def test_groups_stay_together():
    lengths = np.array([3, 4, 9, 1, 2, 2, 5, 4])
    table = build_whole_table("packed", lengths, 16, Whole(8, "drop", group=2, predicts=False))
    rows = [table.document[a:b].tolist() for a, b in zip(table.first[:-1], table.first[1:], strict=True)]
    assert sorted(itertools.chain(*rows)) == [0, 1, 4, 5, 6, 7], "the group with nine tokens is left out"
    for row in rows:
        assert all(pair[0] % 2 == 0 and pair[1] == pair[0] + 1 for pair in zip(row[::2], row[1::2], strict=True))
    assert set(table.length.tolist()) == {2, 3, 4, 5}


def test_equal_prompts_are_in_one_split_and_the_seed_chooses_which(tmp_path):
    rows = [{"question": f"{n % 20}", "answer": [f"{n}"]} for n in range(60)]
    sides = []
    for seed in (0, 1):
        data = loaded(config(tmp_path, rows, validation_fraction=0.3, split_seed=seed))
        prompts = {}
        for split in ("train", "validation"):
            batch = all_rows(data, split)
            texts = [
                data.tokenizer.decode(row[mask > 0])
                for row, mask in zip(batch["inputs"], batch["segments"], strict=True)
            ]
            prompts[split] = {text.partition("\n")[0] for text in texts}
        assert not prompts["train"] & prompts["validation"] and len(prompts["train"] | prompts["validation"]) == 20
        sides.append(prompts["validation"])
    assert sides[0] != sides[1]


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("{", "line 2: not JSON"),
        ({"answer": ["2"]}, r"line 2: no field 'question', only \['answer'\]"),
        ({"question": None, "answer": ["2"]}, "line 2: field 'question' holds null"),
        ({"question": "x", "answer": []}, r"line 2: data.examples.completion='A: {answer\[0\]}' does not fit the row"),
        ({"question": "x", "answer": [{"a": 1}]}, r"line 2: field 'answer\[0\]' holds dict {\"a\": 1}, not a string"),
    ],
)
def test_malformed_rows_name_file_and_line(tmp_path, row, told):
    good = {"question": "1+1", "answer": ["2"]}
    with pytest.raises(UserError, match=rf"rows\.jsonl: {told}"):
        list(open_source(config(tmp_path, [good, row])))
    with pytest.raises(UserError, match=rf"rows\.jsonl: {told}"):
        loaded(config(tmp_path, [good, row]))


def test_an_empty_completion_needs_an_end(tmp_path):
    rows, examples = [{"prompt": "x", "completion": ""}], ExamplesConfig()
    with pytest.raises(UserError, match="line 1: the completion is empty"):
        list(open_source(config(tmp_path, rows, examples=examples)))
    assert len(list(open_source(config(tmp_path, rows, examples=examples, append_eos=True)))) == 1


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"prompt": "{}"}, "braces without a field"),
        ({"prompt": "{a"}, "not a format string"),
        ({"completion": "x"}, "names no field"),
        ({"overlong": "cut"}, "drop, cut_end, cut_start"),
        ({"loss": "half"}, "completion, last, full"),
    ],
)
def test_bad_settings(changes, told):
    with pytest.raises(UserError, match=told):
        ExamplesConfig(**changes)


def test_an_example_must_fit_a_row():
    with pytest.raises(UserError, match=r"longest=30 does not fit: it must lie between 2 and 17"):
        DataConfig(source="sft:x", context=16, examples=ExamplesConfig(longest=30))
    with pytest.raises(UserError, match=r"between 2 and 8, half of data\.context"):
        DataConfig(source="pairs:x", context=16, examples=ExamplesConfig(longest=9))


class Joining(ByteTokenizer):
    """Bytes, but a space and the letter behind it are one token."""

    vocab_size = 512

    def encode(self, text):
        ids, out = super().encode(text).tolist(), []
        while ids:
            one = ids.pop(0)
            out.append(256 + ids.pop(0) if one == 32 and ids and ids[0] != 32 else one)
        return np.array(out, np.int32)

    def decode(self, ids):
        return "".join(f" {chr(i - 256)}" if i >= 256 else chr(i) for i in ids)


def test_a_prompt_keeps_the_tokens_that_it_has_alone():
    parts = (Part("a ", False), Part("b", True))
    document = Document("row", "a b", parts=parts)
    (encoded,) = encode_documents(Joining(), [document])
    assert encoded.tokens.tolist() == [97, 32, 98] and encoded.scored.tolist() == [False, False, True]
    whole = Document("row", "a b", parts=(Part("a", False), Part(" b", True)))
    (encoded,) = encode_documents(Joining(), [whole])
    assert encoded.tokens.tolist() == [97, 256 + 98] and encoded.scored.tolist() == [False, True]
    with pytest.raises(UserError, match="row: a token runs over the end of a turn"):
        encode_documents(Joining(), [document._replace(exact=True)])


def test_examples_whose_completion_was_cut_off_are_counted(tmp_path):
    rows = [{"question": "x" * n, "answer": [1]} for n in (3, 40, 50)]
    options = {"prompt": QUESTION.prompt, "completion": QUESTION.completion}
    data = loaded(config(tmp_path, rows, examples=ExamplesConfig(**options, overlong="cut_end")))
    assert data.describe() == (
        "train 3 examples in 3 rows, 2 texts of over 25 tokens cut (cut_end), 2 of them with nothing left to score"
    )
    data = loaded(config(tmp_path, rows, examples=ExamplesConfig(**options, overlong="cut_start")))
    assert data.describe().endswith("cut (cut_start)")
