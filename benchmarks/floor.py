"""Read files and write one of a given size with plain system calls.  Usage: floor.py OUT BYTES FILE..."""

import sys

CHUNK = 8_000_000


def read(path: str, buffer: bytearray) -> None:
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - pathlib takes longer to import than to use
        while file.readinto(buffer):
            pass


def write(path: str, nbytes: int, buffer: bytearray) -> None:
    with open(path, "wb", buffering=0) as file:  # noqa: PTH123
        while nbytes > 0:
            nbytes -= file.write(memoryview(buffer)[: min(nbytes, len(buffer))])


if __name__ == "__main__":
    out, size, *inputs = sys.argv[1:]
    chunk = bytearray(CHUNK)
    for name in inputs:
        read(name, chunk)
    write(out, int(size), chunk)
