"""Serves a folder as a Hub from the command line."""

import argparse
import os
import sys
import threading
from contextlib import suppress
from pathlib import Path

from space.localhub.server import LocalHub


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m space.localhub", description=__doc__)
    parser.add_argument("--root", type=Path, required=True, help="where the repos are kept")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--import", type=Path, dest="folder", help="a folder whose owner/name/ become public repos")
    parser.add_argument("--user", default="", help="let this person in, with the token in LOCALHUB_TOKEN")
    options = parser.parse_args()
    token = os.environ.get("LOCALHUB_TOKEN", "")  # a command line is shown to everybody on the machine
    if options.user and not token:
        parser.error("--user needs a token in LOCALHUB_TOKEN")
    with LocalHub(options.root, options.port) as hub:
        if options.folder:
            hub.store.import_folder(options.folder)
        if options.user:
            hub.store.add_user(options.user, token=token)
        sys.stdout.write(f"{hub.url}\n")
        sys.stdout.flush()
        with suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
