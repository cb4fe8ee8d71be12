"""TFRecord files: their checksums, and refusals in one line."""

import pytest
from tiny import refused

from rsynth_jax.data import tfrecord


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", 0),
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),  # these and the next: RFC 3720, B.4
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(32))[::-1], 0x113FDB5C),
    ],
)
def test_the_crc_of_published_examples(content, expected):
    assert tfrecord.crc32c(content) == expected


@pytest.mark.parametrize("num", [1, 3, 2043, 2044, 2045, 2048, 4092, 5000])
def test_the_crc_is_that_of_a_loop_over_bits(num):
    content = bytes(i * i % 251 for i in range(num))
    register = 0xFFFFFFFF
    for byte in content:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (register & 1) * 0x82F63B78
    assert tfrecord.crc32c(content) == register ^ 0xFFFFFFFF


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    for path in (tmp_path / "nowhere", tmp_path / ("x" * 300), tmp_path):
        with refused(match="cannot use .*: (No such file|File name too long|Is a directory)"):
            tfrecord.Records([path])
