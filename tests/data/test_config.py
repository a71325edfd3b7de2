"""DataConfig refuses what cannot be meant, in words that say what to write."""

import pytest

from ebm_jax.data import DataConfig
from ebm_jax.errors import UserError


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": "stdlb"}, "did you mean 'stdlib'"),
        ({"source": "jsonnl:x"}, "did you mean 'jsonl'"),
        ({"source": "text"}, "write text:PATH_OR_NAME"),
        ({"source": "tfds:"}, "write tfds:PATH_OR_NAME"),
        ({"source": "stdlib:x"}, "takes nothing after the colon"),
        ({"layout": "pack"}, "did you mean 'packed'"),
        ({"documents": "words"}, "data.documents='words'"),
        ({"context": 0}, "data.context=0 must be at least 1"),
        ({"prefetch": 0}, "data.prefetch=0"),
        ({"max_documents": 0}, "data.max_documents=0"),
        ({"test_fraction": -0.1}, "data.test_fraction=-0.1"),
        ({"validation_fraction": 0.6, "test_fraction": 0.6}, "leaves nothing to train on"),
    ],
)
def test_mistakes_are_named(changes, message):
    with pytest.raises(UserError, match=message.replace("(", r"\(")):
        DataConfig(**changes)


def test_kind_and_path_of_a_source():
    config = DataConfig(source="text:C:/books/*.txt")
    assert (config.source_kind, config.source_path) == ("text", "C:/books/*.txt")
    assert DataConfig().source_kind == "stdlib"


def test_another_corpus_for_evaluation_keeps_tokens_and_rows():
    ood = DataConfig(context=64, layout="truncate").evaluation_of("stdlib-topics", max_documents=3)
    assert (ood.source, ood.context, ood.layout, ood.max_documents) == ("stdlib-topics", 64, "truncate", 3)
    assert (ood.validation_fraction, ood.test_fraction) == (0.0, 1.0)
