"""Parameters as text, for drivers that send none in binary format."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from uuid import UUID

import pytest

from jobq_storage_postgres.binary import (
    byteas,
    float8s,
    int2s,
    int4s,
    int8s,
    jsons,
    moments,
    pack_bool,
    pack_float8,
    pack_int2,
    pack_int4,
    pack_int8,
    pack_moment,
    pack_text,
    texts,
    uuids,
)
from jobq_storage_postgres.sql import Statements
from jobq_storage_postgres.text_format import TextStatement, to_text

ID = UUID("0192e6a0-0000-7000-8000-00000000002a")
MOMENT = datetime(1999, 12, 31, 23, 59, 59, 250_000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("kind", "packed", "text"),
    [
        ("text", None, None),
        ("text[]", None, None),
        ("boolean", pack_bool(True), "t"),
        ("bool", pack_bool(False), "f"),
        ("smallint", pack_int2(-7), "-7"),
        ("integer", pack_int4(2**31 - 1), "2147483647"),
        ("bigint", pack_int8(-(2**63)), "-9223372036854775808"),
        ("float8", pack_float8(0.1), "0.1"),
        ("text", pack_text("a\\'\"%s"), "a\\'\"%s"),
        ("json", b'{"a": 1}', '{"a": 1}'),
        ("bytea", b"\0\\\xff", "\\x005cff"),
        ("uuid", ID.bytes, str(ID)),
        ("timestamptz", pack_moment(MOMENT), "1999-12-31T23:59:59.250000+00:00"),
        ("text[]", texts([]), "{}"),
        ("text[]", texts(["", None, 'a"b\\c', "NULL"]), '{"",NULL,"a\\"b\\\\c","NULL"}'),
        ("uuid[]", uuids([ID.bytes]), f'{{"{ID}"}}'),
        ("smallint[]", int2s([1, -1]), '{"1","-1"}'),
        ("integer[]", int4s([0]), '{"0"}'),
        ("bigint[]", int8s([None, 2**40]), '{NULL,"1099511627776"}'),
        ("float8[]", float8s([1e300]), '{"1e+300"}'),
        ("json[]", jsons([b'"x"', None]), '{"\\"x\\"",NULL}'),
        ("bytea[]", byteas([b"\x01"]), '{"\\\\x01"}'),
        ("timestamptz[]", moments([MOMENT]), '{"1999-12-31T23:59:59.250000+00:00"}'),
    ],
)
def test_a_value_is_written_as_postgresql_reads_it(kind: str, packed: bytes | None, text: str | None) -> None:
    assert to_text(kind, packed) == text


def test_each_statement_of_a_callers_transaction_names_the_types_of_all_its_parameters() -> None:
    statements = Statements("jobq")
    names = ["is_there", "installation", "add", "add_ready", "claim_keys", "release_keys", "drop_keys", "notify_within"]
    names += ["get", "abort", "retry", "busy_key", "hold_run", "complete", "settle"]
    for name in names:
        made = TextStatement(statements[name].sql.decode(), "?{}".format)
        assert not re.search(r"\$\d", made.sql), name
        assert "--" not in made.sql, name


def test_a_parameter_is_cast_wherever_it_stands_and_the_rest_is_escaped() -> None:
    made = TextStatement(
        "-- $1 ids\nSELECT $2::text, $1::uuid[] -- 100 %\nWHERE $1 IS NOT NULL AND 7 % 2 = 1",
        "%({})s".format,
        lambda sql: sql.replace("%", "%%"),
    )
    assert made.sql.split("\n") == [
        "",
        "SELECT ((%(2)s::text)::text), ((%(1)s::text)::uuid[]) ",
        "WHERE ((%(1)s::text)::uuid[]) IS NOT NULL AND 7 %% 2 = 1",
    ]
    assert made.params([uuids([]), b"x"]) == ["{}", "x"]
