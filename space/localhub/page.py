"""Values in, HTML out: the list of repos, one repo, and an error."""

from collections.abc import Iterable
from html import escape
from urllib.parse import quote

from space.localhub.access import User
from space.localhub.records import Commit, FileInfo, Repo

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem; color: #1c1e21; }
h1 { font-size: 1.4rem } a { color: #0b57d0; text-decoration: none } a:hover { text-decoration: underline }
table { width: 100%; border-collapse: collapse } td { padding: .3rem 0; border-top: 1px solid #e4e6e8 }
td + td, .quiet { color: #65676b; font-size: .9rem } td + td { text-align: right }
.badge { font-size: .75rem; border: 1px solid #bcc0c4; border-radius: 1rem; padding: .1rem .6rem; margin-left: .4rem }
pre { background: #f6f7f8; padding: 1rem; border-radius: .4rem; white-space: pre-wrap; overflow-wrap: anywhere }
fieldset { border: 0; padding: 0; margin: 1rem 0 } label { display: block; padding: .4rem 0 }
button { font: inherit; padding: .5rem 1.2rem; border-radius: .4rem; border: 1px solid #bcc0c4; background: #fff }
button[value="allow"] { background: #0b57d0; border-color: #0b57d0; color: #fff; margin-right: .6rem }
"""


def document(title: str, body: str) -> str:
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n<body>{body}</body></html>\n"
    )


def badges(repo: Repo) -> str:
    words = ["private"] * repo.private + ["gated"] * (repo.gated is not False)
    return "".join(f'<span class="badge">{word}</span>' for word in words)


def list_page(repos: Iterable[Repo], title: str) -> str:
    rows = "".join(
        f'<tr><td><a href="/{escape(repo.id)}">{escape(repo.id)}</a>{badges(repo)}</td>'
        f"<td>{escape(repo.created[:10])}</td></tr>\n"
        for repo in repos
    )
    table = f"<table>{rows}</table>" if rows else "<p>There are no models here yet.</p>"
    return document(title, f"<h1>{escape(title)}</h1>{table}")


def repo_page(repo: Repo, commit: Commit, readme: str) -> str:
    owner, _, name = repo.id.partition("/")
    heading = f'<h1><a href="/{escape(owner)}">{escape(owner)}</a> / {escape(name)}{badges(repo)}</h1>'
    last = f'<p class="quiet">{escape(commit.title)}, {escape(commit.date[:10])}, {commit.sha[:7]}</p>'
    rows = "".join(file_row(repo.id, commit.sha, path, info) for path, info in commit.files.items())
    card = f"<h2>README.md</h2><pre>{escape(readme)}</pre>" if readme else ""
    return document(repo.id, f'<p><a href="/">All models</a></p>{heading}{last}<table>{rows}</table>{card}')


def file_row(repo_id: str, sha: str, path: str, info: FileInfo) -> str:
    link = f"/{repo_id}/blob/{sha}/{quote(path)}"
    return f'<tr><td><a href="{escape(link)}">{escape(path)}</a></td><td>{size_text(info.size)}</td></tr>\n'


def size_text(nbytes: float) -> str:
    if nbytes < 1000:
        return f"{nbytes:.0f} bytes"
    units = ["kB", "MB", "GB", "TB"]
    while (nbytes := nbytes / 1000) >= 1000 and len(units) > 1:
        del units[0]
    return f"{nbytes:.1f} {units[0]}"


def consent_page(users: Iterable[User], wants: Iterable[str]) -> str:
    """Who is asked, what the app wants, and the two buttons. The form goes back to the address it came from."""
    people = "".join(
        f'<label><input type="radio" name="user" value="{escape(user.name)}" required> '
        f'{escape(user.fullname)} <span class="quiet">{escape(user.name)}</span></label>'
        for user in users
    )
    listed = "".join(f"<li>{escape(want)}</li>" for want in wants)
    return document(
        "Sign in",
        "<h1>An app asks to sign you in</h1><p>It wants to</p>"
        f'<ul>{listed}</ul><form method="post"><fieldset><legend>You are</legend>{people}</fieldset>'
        '<button name="answer" value="allow">Allow</button>'
        '<button name="answer" value="deny" formnovalidate>Do not allow</button></form>',
    )


def error_page(status: int, message: str) -> str:
    hint = ""
    if status == 401:
        hint = "<p>There is no such page, or it is private: then it is shown to those who may see it only.</p>"
    return document(str(status), f"<h1>{status}</h1><p>{escape(message)}</p>{hint}")
