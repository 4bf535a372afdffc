"""Reads the few fields of a multipart form that decide its way. The file in it is passed over, never held."""

import re
from typing import Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from server.api_error import ApiError

# A model's name has no business being longer; no field that we read has.
_MOST_FIELD_BYTES: Final = 1024
_READ_FIELDS: Final = frozenset({b"model", b"stream"})
# Starlette, which vLLM reads forms with, takes no more fields either.
_MOST_PARTS: Final = 1000
_MOST_PADDING: Final = 64
# As pydantic reads a truth value in a form.
_TRUE: Final = frozenset({"1", "on", "t", "true", "y", "yes"})


class MultipartForm:
    """The fields `model` and `stream` of a form that is fed piece by piece; of a repeated field the last counts.

    `is_sound` turns false at the first byte that no form can have: nothing is read from there on, and the engine
    may say what is wrong.
    """

    def __init__(self, boundary: bytes) -> None:
        self.fields: dict[bytes, bytes] = {}
        self.is_sound = True
        self._header_name = b""
        self._header_value = b""
        self._field: bytes | None = None
        self._value = b""
        self._parser = MultipartParser(
            boundary,
            callbacks={
                "on_part_begin": self._part_begins,
                "on_header_field": self._header_field,
                "on_header_value": self._header_continues,
                "on_header_end": self._header_ends,
                "on_part_data": self._data,
                "on_part_end": self._part_ends,
            },
        )

    def feed(self, piece: bytes) -> None:
        if not self.is_sound:
            return
        try:
            self._parser.write(piece)
        except FormParserError:
            self.is_sound = False

    def text(self, field: str) -> str | None:
        """A field's value, None where there is none.

        Raises:
            ApiError: 400, naming it: its value is too long, or no UTF-8.
        """
        value = self.fields.get(field.encode("ascii"))
        if value is None:
            return None
        if len(value) > _MOST_FIELD_BYTES:
            raise ApiError(400, f"{field}: this field of the form is too long", "invalid_value", field)
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise ApiError(400, f"{field}: this field of the form is not UTF-8", "invalid_value", field) from None

    def is_true(self, field: str) -> bool:
        """Whether a field says so.

        Raises:
            ApiError: as for `text`.
        """
        return (self.text(field) or "").lower() in _TRUE

    # -- the parser's callbacks ----------------------------------------------------------------------------------

    def _part_begins(self) -> None:
        self._header_name = self._header_value = self._value = b""
        self._field = None

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _header_continues(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _header_ends(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            _, options = parse_options_header(self._header_value)
            name = options.get(b"name", b"")
            self._field = name if name in _READ_FIELDS and b"filename" not in options else None
        self._header_name = self._header_value = b""

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._field is not None and len(self._value) <= _MOST_FIELD_BYTES:
            self._value += data[start : min(end, start + _MOST_FIELD_BYTES + 1)]

    def _part_ends(self) -> None:
        if self._field is not None:
            self.fields[self._field] = self._value


def read_form(content_type: bytes, body: bytes) -> MultipartForm | None:
    """The form in a body that is whole, None where `content_type` is not that of one."""
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        return None
    try:
        form = MultipartForm(boundary)
    except FormParserError:  # a boundary longer than any client's
        return None
    if _is_reasonable(b"--" + boundary, body):
        form.feed(body)  # in one piece: the parser hands out positions in it and copies nothing
    else:
        form.is_sound = False
    return form


def _is_reasonable(delimiter: bytes, body: bytes) -> bool:
    """Whether the parser will be quick: it takes a step of Python at each delimiter and for each blank behind one."""
    if body.count(delimiter) > _MOST_PARTS:
        return False
    return re.search(re.escape(delimiter) + rb"[ \t]{%d}" % _MOST_PADDING, body) is None
