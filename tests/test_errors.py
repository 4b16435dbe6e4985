from __future__ import annotations

import inspect

import pytest

from windvane import errors
from windvane.errors import InputError, WindvaneError, unknown_name_error


def test_the_tree_in_the_docstring_is_the_real_one() -> None:
    drawn = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        name = line.strip("│├└─ ").partition(" ")[0]
        if name.endswith("Error") and not line.startswith(" " * 8):
            depth = (len(line) - len(line.lstrip("│├└─ "))) // 4 - 1
            path[depth:] = [name]
            drawn[name] = path[depth - 1] if depth else "Exception"
    real = {
        name: kind.__bases__[0].__name__
        for name, kind in vars(errors).items()
        if inspect.isclass(kind) and kind.__doc__
        if issubclass(kind, Exception)
    }
    assert drawn == real


def test_users_may_catch_bad_input_as_a_value_error() -> None:
    assert issubclass(InputError, ValueError)
    with pytest.raises(ValueError, match="policy"):
        raise unknown_name_error("policy", "cv4", ["cv3"])
    with pytest.raises(WindvaneError):
        raise errors.RunLockedError("in use")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("holdot", "policy='holdot' is not known. Did you mean 'holdout'? Allowed: holdout, cv5."),
        ("zzz", "policy='zzz' is not known. Allowed: holdout, cv5."),
        ("Hold-Out", "policy='Hold-Out' is not known. Did you mean 'holdout'? Allowed: holdout, cv5."),
        (5, "policy=5 is not known. Did you mean 'cv5'? Allowed: holdout, cv5."),
        (None, "policy=None is not known. Allowed: holdout, cv5."),
    ],
)
def test_unknown_names_what_came_and_what_is_allowed(given: object, message: str) -> None:
    assert str(unknown_name_error("policy", given, ["holdout", "cv5"])) == message


def test_a_name_that_is_like_no_other_has_no_suggestion() -> None:
    assert str(unknown_name_error("by", "nope", ["smoker"])) == "by='nope' is not known. Allowed: smoker."


def test_a_long_list_of_names_is_cut_but_the_nearest_is_found() -> None:
    message = str(unknown_name_error("metric", "name 98", (f"name_{i}" for i in range(100))))
    assert "Did you mean 'name_98'?" in message
    assert f"and {100 - errors.MOST_NAMES} more." in message
    assert "name_50," not in message
