"""Keep tokens out of what is written down: logs, errors, the journal."""

import logging
import re

# A digit or a length tells a token from names such as hf_hub_download, which a traceback needs.
TOKEN = re.compile(r"\bhf_(?:oauth_[\w.-]+|\w*\d[\w.-]*|[A-Za-z0-9]{16,})|(?<=Bearer )\S+")


def redact(text: str) -> str:
    """The text with every Hugging Face token replaced by a word that says so."""
    return TOKEN.sub("[token]", text)


def redact_record(record: logging.LogRecord) -> logging.LogRecord:
    """Clean a record's message and traceback before anybody formats it."""
    message = record.getMessage()
    if (clean := redact(message)) != message:
        record.msg, record.args = clean, ()
    if record.exc_info and record.exc_info[0]:
        record.exc_text = redact(logging.Formatter().formatException(record.exc_info))
    return record


def redact_logs() -> None:
    """From now on, whatever is logged by whomever, no handler sees a token. Called once, when the app starts."""
    make = logging.getLogRecordFactory()
    logging.setLogRecordFactory(lambda *args, **kwargs: redact_record(make(*args, **kwargs)))
