import logging

import pytest

from space.redact import redact, redact_logs


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("token hf_AbCdEfGhIjKlMnOpQrStUvWxYz and more", "token [token] and more"),
        ("hf_oauth_eyJh.bGci-Oi_J", "[token]"),
        ("{'authorization': 'Bearer abc.def'}", "{'authorization': 'Bearer [token]"),
        ("hf_ada7_token", "[token]"),
        (
            "in hf_hub_download, hf_raise_for_status of hf_api.py",
            "in hf_hub_download, hf_raise_for_status of hf_api.py",
        ),
    ],
)
def test_tokens_go_and_names_stay(text, clean):
    assert redact(text) == clean


@pytest.fixture
def redacted():
    before = logging.getLogRecordFactory()
    redact_logs()
    yield
    logging.setLogRecordFactory(before)


def test_no_log_line_or_traceback_holds_a_token(redacted, caplog):
    log = logging.getLogger("someone.else")
    try:
        raise ValueError("refused hf_secret1234567890")
    except ValueError as e:
        log.exception("failed for %s: %s", "hf_secret1234567890", e)
    log.warning("%d of %s", 1, "two")
    assert "hf_secret" not in caplog.text
    assert "1 of two" in caplog.text
