from __future__ import annotations

import json

import attrs
import pytest

from jobq_core.secret import Secret, redact


@pytest.mark.parametrize("show", [repr, str, "{}".format, "{:>20}".format, "{!r}".format, "%s".__mod__])
def test_a_secret_is_never_shown(show: object) -> None:
    shown = show(Secret("hunter2"))  # type: ignore[operator]
    assert "hunter2" not in shown
    assert "***" in shown


def test_a_secret_gives_its_value() -> None:
    value = ["a"]
    assert Secret(value).reveal() is value


def test_secrets_are_equal_by_value() -> None:
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2


def test_a_secret_keeps_nothing_else() -> None:
    with pytest.raises(AttributeError):
        Secret("a").other = 1  # type: ignore[attr-defined]


def test_redact_hides_each_secret_at_any_depth() -> None:
    values = (Secret("alpha"), {"k": [Secret("beta")]}, ({Secret("gamma")}, [{"x": (Secret(12345),)}]), "plain", None)
    assert redact("alpha beta gamma 12345 plain", values) == "*** *** *** *** plain"


def test_redact_hides_the_longer_secret_first() -> None:
    assert redact("password123 password", (Secret("password"), Secret("password123"))) == "*** ***"


def test_redact_leaves_text_alone_without_secrets() -> None:
    assert redact("nothing to hide", ()) == "nothing to hide"
    assert redact("nothing", (Secret(""), "nothing")) == "nothing"


@attrs.frozen
class Login:
    user: str
    password: Secret[str]


def test_redact_looks_into_attrs_values() -> None:
    assert redact("ada hunter2", (Login("ada", Secret("hunter2")),)) == "ada ***"


@pytest.mark.parametrize("shown", ['it\'s\na "key" é', repr('it\'s\na "key" é'), json.dumps('it\'s\na "key" é')])
def test_redact_hides_a_secret_as_it_stands_in_a_repr_or_in_json(shown: str) -> None:
    assert redact(shown, (Secret('it\'s\na "key" é'),)).strip("\"'") == "***"
