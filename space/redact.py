"""Keep tokens out of what is written down: logs, errors, the journal."""

import logging
import re

# A digit or a length tells a token from names such as hf_hub_download, which a traceback needs.
TOKEN = re.compile(r"\bhf_(?:oauth_[\w.-]+|\w*\d[\w.-]*|[A-Za-z0-9]{16,})|(?<=Bearer )\S+")


def redact(text: str) -> str:
    """The text with every Hugging Face token replaced by a word that says so."""
    return TOKEN.sub("[token]", text)


class Redact(logging.Filter):
    """Rewrites a record before it is formatted, its traceback as well."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = redact(record.getMessage()), None
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        if record.exc_text:
            record.exc_text = redact(record.exc_text)
        return True


def redact_logs() -> None:
    """Put the filter on every handler of the root logger: those see all records, whoever wrote them."""
    for handler in logging.getLogger().handlers:
        if not any(isinstance(f, Redact) for f in handler.filters):
            handler.addFilter(Redact())
