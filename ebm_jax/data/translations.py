"""A sentence in several languages as rows to translate, one for each direction that is asked for."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from ebm_jax.data.example_rows import Row
from ebm_jax.errors import UserError
from ebm_jax.languages import LANGUAGES


def in_directions(row: Row, directions: Sequence[str]) -> Iterator[Row]:
    """The row once for each of ``directions`` (``de-en``) whose languages it has, with ``source``, ``target`` and their names.

    The texts are in the field ``translation`` or in fields of their own, by language. All rows of a sentence are in one split:
    that of its text in the language that most directions have, so that translations of one text stay together.

    Raises:
      UserError: the row has no two languages of any direction.
    """
    texts = row.fields.get("translation", row.fields)
    if not isinstance(texts, Mapping):
        raise UserError(f"{row.where}: field 'translation' holds a {type(texts).__name__}, not texts by language")
    pairs = [(source, target) for source, _, target in (direction.partition("-") for direction in directions)]
    uses = Counter(code for pair in pairs for code in pair)
    pairs = [pair for pair in pairs if all(isinstance(texts.get(code), str) and texts[code].strip() for code in pair)]
    if not pairs:
        there = ", ".join(sorted(code for code in texts if code in LANGUAGES)) or "no language"
        raise UserError(
            f"{row.where}: it has texts in {there}, and none of data.examples.directions={','.join(directions)} goes between"
            " those: name one that does, or leave the file out with data.exclude"
        )
    common = max((code for pair in pairs for code in pair), key=uses.__getitem__)
    for source, target in pairs:
        told = f" ({source}-{target})"
        fields = {
            "source": texts[source],
            "target": texts[target],
            "source_language": LANGUAGES[source],
            "target_language": LANGUAGES[target],
        }
        yield row._replace(
            key=row.key + told, where=row.where + told, fields={**row.fields, **fields}, split_key=texts[common]
        )
