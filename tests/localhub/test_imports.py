"""The server knows nothing of the client, which reads its endpoint when it is imported."""

import subprocess
import sys
from typing import get_args

from huggingface_hub.hf_api import ExpandModelProperty_T

from space.localhub.profile import EXPANDABLE


def test_importing_the_server_leaves_the_client_alone():
    code = "import sys, space.localhub, space.demo.hub; print('huggingface_hub' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"


def test_what_can_be_expanded_is_what_the_client_may_ask_for():
    assert set(get_args(ExpandModelProperty_T)) == EXPANDABLE
