"""Errors of the Hub's client in the user's words, where a local Hub cannot bring them about."""

import pytest
from huggingface_hub.errors import OfflineModeIsEnabled

from merging.hub.words import HubFault, in_words, without_tokens
from tests.merging.hubs import ADA


def test_offline_mode_is_named():
    assert "HF_HUB_OFFLINE is set" in str(in_words(OfflineModeIsEnabled("x"), "acme/x", token=False))


def test_an_upload_that_fails_in_its_own_library_is_told_without_the_token():
    words = str(in_words(RuntimeError("CAS said no to hf_secretsecret"), "acme/x", token="hf_secretsecret"))
    assert words == "The upload of acme/x failed: CAS said no to (your token). Try it again."


def test_the_cause_of_an_upload_error_counts():
    try:
        raise RuntimeError("Error while uploading") from OfflineModeIsEnabled("x")
    except RuntimeError as error:
        assert "HF_HUB_OFFLINE" in str(in_words(error, "acme/x", token=False))


@pytest.mark.parametrize("text", ["hf_abcdefgh", "Bearer hf_abcdefgh!", "a hf_AbC123456 b"])
def test_any_token_is_taken_out(text: str):
    assert "hf_" not in without_tokens(text, False)


def test_a_fault_is_told_from_a_refusal():
    def fail() -> None:
        raise RuntimeError("broken")

    with pytest.raises(Exception, match="broken") as raised:
        ADA.client.ask("acme/x", fail)
    assert not isinstance(raised.value, HubFault)
