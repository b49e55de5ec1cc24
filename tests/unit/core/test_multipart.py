"""Reading one field of a form without touching its file."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpushare.core.errors import InvalidRequest
from gpushare.core.multipart import PARTS_MAX, boundary_of, read_form_field

B = "----form7d"
FILE = 'Content-Disposition: form-data; name="file"; filename="a.wav"\r\nContent-Type: audio/wav\r\n\r\nRIFF'
MODEL = 'Content-Disposition: form-data; name="model"\r\n\r\nwhisper'


def form(*parts: str) -> bytes:
    """Returns a form of raw parts."""
    return "".join(f"--{B}\r\n{part}\r\n" for part in parts).encode() + f"--{B}--\r\n".encode()


def model(body: bytes) -> str | None:
    """Returns the model field of a form."""
    return read_form_field(body, boundary=B, field="model")


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ("multipart/form-data; boundary=----form7d", "----form7d"),
        ('Multipart/Form-Data; boundary="a b c"', None),
        ('multipart/form-data;boundary="a=b"', "a=b"),
        ("multipart/form-data", None),
        ("multipart/form-data; boundary=", None),
        ("multipart/form-data; charset=x; boundary=a", None),
        ("multipart/form-data; boundary=a; boundary=b", None),
        ("multipart/mixed; boundary=a", None),
        ("multipart/form-data; boundary=" + "a" * 71, None),
        ("multipart/form-data; boundary=a\r\nX: y", None),
        ("multipart/form-data; boundary=\u00e4", None),
    ],
)
def test_boundaries_are_plain_or_refused(content_type: str, boundary: str | None) -> None:
    """One plain boundary is read; anything two readers could see differently is 400."""
    if boundary is None:
        with pytest.raises(InvalidRequest):
            boundary_of(content_type)
    else:
        assert boundary_of(content_type) == boundary


@pytest.mark.parametrize("parts", [(MODEL, FILE), (FILE, MODEL), (FILE, MODEL.replace("D", "d", 1))])
def test_the_field_is_found_in_any_place(parts: tuple[str, ...]) -> None:
    """Clients put the model before or after the file."""
    assert model(form(*parts)) == "whisper"


def test_a_form_without_the_field_has_none() -> None:
    """A missing field is the caller's to judge, and names keep their case as in Go."""
    assert model(form(FILE)) is None
    assert model(form(MODEL.replace("model", "Model"))) is None


def test_a_file_may_hold_anything_but_the_boundary() -> None:
    """Line ends, dashes and binary data inside the file are content."""
    audio = FILE + "\r\n\r\n--other\r\n--\x00\xff\r\n"
    assert model(form(audio, MODEL)) == "whisper"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"x" + form(MODEL),
        form(MODEL) + b"epilogue",
        form(MODEL)[:-4],
        form(MODEL).replace(b"\r\n", b"\n"),
        form(MODEL, MODEL),
        form(MODEL, MODEL.replace("whisper", "other")),
        form(MODEL.replace('name="model"', 'name="model"; filename="x"')),
        form(MODEL.replace('name="model"', "name*=utf-8''model")),
        form(MODEL.replace('name="model"', 'name="a"; name="model"')),
        form(MODEL.replace('name="model"', "name=model")),
        form(MODEL.replace('name="model"', 'name="mo\\del"')),
        form("Content-Transfer-Encoding: base64\r\n" + MODEL),
        form(MODEL.split("\r\n", maxsplit=1)[0] + "\r\n" + MODEL),
        form(MODEL.replace("\r\n", "\r\n continued\r\n", 1)),
        form("\r\n" + MODEL),
        form("nothing"),
        form('Content-Type: a\nContent-Disposition: form-data; name="model"\r\n' + FILE, MODEL),
        form("Content-Type: a\rb\r\n" + FILE, MODEL),
        form(MODEL.replace("whisper", f"whisper\r\n--{B}x")),
        form(MODEL).replace(b"whisper", b"\xff"),
        form(*[FILE] * PARTS_MAX, MODEL),
    ],
)
def test_forms_two_readers_could_read_differently_are_refused(body: bytes) -> None:
    """Loose delimiters, encoded parts, repeated or disguised fields and broken ends are 400."""
    with pytest.raises(InvalidRequest):
        model(body)


@given(
    st.binary(max_size=60), st.lists(st.sampled_from([b"--" + B.encode(), b"\r\n", b"--", b"\r\n\r\n", b":"]))
)
def test_any_bytes_give_text_or_a_refusal(noise: bytes, marks: list[bytes]) -> None:
    """No body raises anything but a 400 of ours."""
    for body in (noise, b"".join(marks) + noise, form(MODEL) + noise, noise.join(marks)):
        try:
            found = model(body)
        except InvalidRequest:
            continue
        assert found is None or isinstance(found, str)
