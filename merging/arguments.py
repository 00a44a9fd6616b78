"""What is typed on a command line as values: sizes, shares and whole numbers, refused with what was typed."""

import argparse
import re

POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def size(text: str) -> int:
    """Bytes from 500MB, 1.5GB or 2GiB."""
    found = re.fullmatch(r"(\d{1,18}(?:\.\d{1,18})?) ?([kmgt]?)(i?)b?", text.strip().lower())
    if not found:
        raise argparse.ArgumentTypeError(f"{short(text)} is not a size; write it like 500MB or 1.5GB")
    return int(float(found[1]) * (1024 if found[3] else 1000) ** POWERS[found[2]])


def fraction(text: str) -> float:
    if not re.fullmatch(r"\d{0,9}(\.\d{1,9})?", text) or not 0 < float(text or 0) <= 1:
        raise argparse.ArgumentTypeError(f"{short(text)} is not a share; write it like 0.1, above 0 and at most 1")
    return float(text)


def natural(text: str, least: int = 0) -> int:
    if not re.fullmatch(r"[0-9]{1,19}", text) or not least <= int(text) < 2**63:
        raise argparse.ArgumentTypeError(f"{short(text)} is not a whole number from {least} on")
    return int(text)


def short(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:37]}...")


def positive(text: str) -> int:
    return natural(text, least=1)
