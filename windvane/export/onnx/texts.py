"""Columns of texts in a graph: the terms of a text, hashed, counted, weighted and projected as `TextEmbedding` does.

ONNX itself has neither a hash of texts nor a way to take them apart by characters or by an expression, and its lower
case depends on the locales of the machine. The operators `Tokenizer` and `MurmurHash3` of onnxruntime's own domain have
what is missing; the case of a character is looked up.

Shapes: n rows, t words of a row, u distinct words, l characters of a word, b buckets.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import numpy as np

from windvane.export.onnx.graph import ML, Graph
from windvane.runtime.columns.column_values import MISSING_TEXTS

OPSET, RUNTIME = 20, "com.microsoft"  # the operators that join texts, and the domain of onnxruntime
_DOTTED_I = "\u0130"  # the one letter whose lower case has a character that is no letter: a dot above
_SIGMA, _FINAL_SIGMA = "\u03a3", "\u03c2"
_CHANGES, _CASED, _IS_SIGMA = 1, 2, 4  # bits of what is known of a character


def embed(graph: Graph, text: str, step: Any, arrays: Any, known: dict[Any, str]) -> str:
    """Add a text column (n, 1) as numbers (n, d); `known` has what the graph holds already."""
    key = (text, step["analyzer"], tuple(step["ngram_range"]), step["n_features"])
    if key not in known:
        known[key] = _weigh(graph, text, step)
    weighted = graph.add("Mul", known[key], arrays["idf"])  # (n, b)
    squares = graph.sum(graph.add("Mul", weighted, weighted), 1, keep=True)
    lengths = graph.add("Sqrt", graph.add("Where", graph.add("Equal", squares, 0.0), 1.0, squares))
    return graph.add("Div", graph.add("MatMul", weighted, arrays["components"]), lengths)


def zeros(graph: Graph, text: str) -> str:
    """Return a zero for each row of a text column, (n, 1), double."""
    return graph.cast(_look_up(graph, text, {"": 0}, 0), "double")


def _weigh(graph: Graph, text: str, step: Any) -> str:
    """Return 1 + log of how often each term is in a text, and 0 for the terms that are not in it, (n, b)."""
    graph.opsets.update({"": OPSET, RUNTIME: 1})
    longest = step["ngram_range"][1]
    by_word = step["analyzer"] == "word"
    expression = _word_expression() if by_word else f"[^{_class_of(str.isspace)}]+"
    words = _tokenize(graph, text, expression, longest)  # (n, t)
    distinct, place = graph.unique(graph.reshape(words, -1))  # (u,), (n * t,)
    lowered = _lower(graph, _tokenize(graph, distinct, None, 1), "i" if by_word else _DOTTED_I.lower())  # (u,)
    if by_word:
        pieces = graph.add("Reshape", graph.add("Gather", lowered, place), graph.add("Shape", words))  # (n, t)
        bucket, counted = _hash(graph, pieces, step, " ")
    else:
        framed = graph.add("StringConcat", graph.add("StringConcat", graph.constant(" "), lowered), graph.constant(" "))
        bucket, there = _hash(graph, _tokenize(graph, framed, None, longest), step, "")  # (u, q)
        there = graph.add("And", there, graph.reshape(_is_text(graph, lowered), -1, 1))
        n = graph.add("Shape", text, attributes={"end": 1})
        rows = graph.add("Concat", n, np.array([-1]), attributes={"axis": 0})
        bucket, counted = (graph.add("Reshape", graph.add("Gather", one, place), rows) for one in (bucket, there))
    is_present = graph.add("Equal", _look_up(graph, text, dict.fromkeys(MISSING_TEXTS, 1), 0), 0)  # (n, 1)
    counted = graph.add("And", counted, is_present)
    empty = graph.add("Mul", zeros(graph, text), np.zeros((1, step["n_features"])))  # (n, b)
    add = {"axis": 1, "reduction": "add"}
    counts = graph.add("ScatterElements", empty, bucket, graph.cast(counted, "double"), attributes=add)
    return graph.add("Add", graph.add("Log", graph.at_least(counts, 1.0)), graph.at_most(counts, 1.0))


def _hash(graph: Graph, pieces: str, step: Any, between: str) -> tuple[str, str]:
    """Return the buckets of all terms of neighbouring pieces (r, q), and which of the terms there are."""
    terms = list(_terms(graph, pieces, step["ngram_range"], between))
    hashed = graph.add(
        "MurmurHash3", graph.concat([term for term, _ in terms]), attributes={"positive": 0, "seed": 0}, domain=RUNTIME
    )
    bucket = graph.add("Mod", graph.add("Abs", graph.cast(hashed, "int64")), int(step["n_features"]))
    return bucket, graph.concat([there for _, there in terms])


def _terms(graph: Graph, pieces: str, lengths: tuple[int, int], between: str) -> Iterator[tuple[str, str]]:
    """Yield the terms of each length, and which of them are whole: each row of pieces (r, q) ends with blanks."""
    joined, last = pieces, pieces
    shortest, longest = lengths
    for length in range(1, longest + 1):
        if length > 1:
            last, joined = graph.slice(pieces, length - 1, None), graph.slice(joined, 0, -1)
            if between:
                joined = graph.add("StringConcat", joined, graph.constant(between))
            joined = graph.add("StringConcat", joined, last)
        if length >= shortest:
            yield joined, _is_text(graph, last)


def _tokenize(graph: Graph, texts: str, expression: str | None, n_blank: int) -> str:
    """Take texts apart into what an expression matches, or into characters: (r, q), with so many blanks at the end."""
    how: dict[str, Any] = {"separators": [""]} if expression is None else {"tokenexp": expression}
    flat = graph.reshape(texts, -1)
    attributes = how | {"mark": 0, "mincharnum": 1, "pad_value": ""}
    found = graph.add("Tokenizer", flat, attributes=attributes, domain=RUNTIME)
    blank = _look_up(graph, graph.reshape(flat, -1, 1), {"": ""}, "")
    return graph.concat([found, *[blank] * n_blank])


def _lower(graph: Graph, characters: str, dotted_i: str) -> str:
    """Join characters (u, l) to words in lower case, as Python writes it: (u,)."""
    lower, bits = _letters()
    known = _look_up(graph, characters, bits, 0)

    def has(bit: int) -> str:
        return graph.add("Gather", np.arange(2 * _IS_SIGMA) & bit > 0, known)

    cased = has(_CASED)
    no = graph.add("And", graph.columns(cased, [0]), np.array(False))  # (u, 1)
    before, after = graph.concat([no, graph.slice(cased, 0, -1)]), graph.concat([graph.slice(cased, 1, None), no])
    ends = graph.add("And", graph.add("And", has(_IS_SIGMA), before), graph.add("Not", after))
    changed = _look_up(graph, characters, {**lower, _DOTTED_I: dotted_i}, "")
    lowered = graph.add("Where", has(_CHANGES), changed, characters)
    return graph.join_texts(graph.add("Where", ends, graph.constant(_FINAL_SIGMA), lowered))


def _is_text(graph: Graph, texts: str) -> str:
    """Tell which texts are not empty."""
    return graph.cast(_look_up(graph, texts, {"": 0}, 1), "bool")


def _look_up(graph: Graph, texts: str, values: Mapping[str, Any], default: Any) -> str:
    """Translate texts to texts or to integers."""
    kind = "string" if isinstance(default, str) else "int64"
    content = {"keys_strings": list(values), f"values_{kind}s": list(values.values()), f"default_{kind}": default}
    return graph.add("LabelEncoder", texts, attributes=content, domain=ML)


@cache
def _letters() -> tuple[dict[str, str], dict[str, int]]:
    """Return the lower case of each character that has another one, and the bits of each character that has a case."""
    lower, bits = {}, {}
    for one in map(chr, range(sys.maxunicode + 1)):
        changes, cased = one.lower() != one, one.isupper() or one.islower() or one.istitle()
        if changes:
            lower[one] = one.lower()
        if changes or cased:
            bits[one] = _CHANGES * changes + _CASED * cased + _IS_SIGMA * (one == _SIGMA)
    return lower, bits


@cache
def _class_of(test: Any) -> str:
    """Write the characters that pass a test in Python as the inside of a character class."""
    passing = np.array([number for number in range(sys.maxunicode + 1) if test(chr(number))])
    starts = np.flatnonzero(np.diff(passing, prepend=-2) > 1)
    ends = np.append(starts[1:], len(passing)) - 1
    return "".join(f"\\x{{{passing[a]:X}}}-\\x{{{passing[b]:X}}}" for a, b in zip(starts, ends, strict=True))


def _is_word_character(one: str) -> bool:
    return (one.isalnum() or one == "_") and one != _DOTTED_I


def _word_expression() -> str:
    r"""Write what `\b\w\w+\b` finds in lower case: words of at least two letters, which end after a dotted I."""
    letter, dotted = f"[{_class_of(_is_word_character)}]", f"\\x{{{ord(_DOTTED_I):X}}}"
    return f"{letter}{{2,}}{dotted}?|{letter}{dotted}"
