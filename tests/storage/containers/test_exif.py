"""Orientation, read from what cameras write and from what attackers do."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.containers.exif import read_orientation, write_orientation
from tests.storage.containers.seeds import exif


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("order", ["<", ">"])
def test_every_orientation_is_read_in_both_byte_orders(orientation: int, order: str) -> None:
    assert read_orientation(exif(orientation, order)) == orientation


@pytest.mark.parametrize("orientation", range(1, 9))
def test_what_is_written_is_read(orientation: int) -> None:
    assert read_orientation(write_orientation(orientation)) == orientation


def test_the_prefix_of_a_jpeg_may_lead() -> None:
    assert read_orientation(b"Exif\0\0" + exif(6)) == 6


def test_an_orientation_as_a_long_number_is_read() -> None:
    block = b"II*\0" + struct.pack("<IHHHIII", 8, 1, 0x0112, 4, 1, 6, 0)

    assert read_orientation(block) == 6


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_a_value_that_is_no_orientation_means_upright(value: int) -> None:
    assert read_orientation(exif(value)) == 1


def test_entries_that_were_announced_but_are_not_there_mean_upright() -> None:
    block = b"II*\0" + struct.pack("<IH", 8, 65535) + b"\0" * 120

    assert read_orientation(block) == 1


def test_a_directory_behind_the_end_means_upright() -> None:
    assert read_orientation(b"MM\0*\xff\xff\xff\xff") == 1


@given(st.sampled_from([b"", b"II*\0", b"MM\0*", b"Exif\0\0MM\0*\0\0\0\x08"]), st.binary())
def test_noise_has_some_orientation(head: bytes, noise: bytes) -> None:
    assert read_orientation(head + noise) in range(1, 9)
