"""The page's server: who may ask, what is sent, and nothing else."""

import hmac
import re
import secrets
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import flask
from werkzeug.exceptions import HTTPException

from emoc_tf.annotation import names
from emoc_tf.annotation.album import SIZES
from emoc_tf.annotation.journal import NotSavedError
from emoc_tf.annotation.requests import RefusedError
from emoc_tf.annotation.service import Service
from emoc_tf.data.decoding import ChangedError

PAGE = Path(__file__).parent / "page"
_TYPES = {
    ".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml",
}  # fmt: skip
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_YEAR = 365 * 24 * 3600
LARGEST_REQUEST = 2**21


def make_app(service: Service, token: str, hosts: Iterable[str], port: int = 0) -> flask.Flask:
    """Returns the application.

    Any request has to bring the token, as `?token=`, in the header `X-Token`, or in the cookie that
    the page's own address sets.

    Args:
        service: What is served.
        token: What a request has to bring.
        hosts: Values of the header `Host` that are answered.
        port: Tells the cookies of several servers on this machine apart.
    """
    app = flask.Flask("emoc_annotate", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = LARGEST_REQUEST
    allowed, cookie, seat_cookie = set(hosts), f"emoc_{port}", f"emoc_seat_{port}"

    @app.before_request
    def check() -> None:
        request = flask.request
        if request.host not in allowed:
            flask.abort(403, "Host: open the address that was printed in the terminal")
        given = (request.args.get("token"), request.headers.get("X-Token"),
                 request.cookies.get(cookie))  # fmt: skip
        if not any(hmac.compare_digest((each or "").encode(), token.encode()) for each in given):
            flask.abort(403, "token: open the address that was printed in the terminal")
        origin = request.headers.get("Origin")
        if origin is not None and origin != f"{request.scheme}://{request.host}":
            flask.abort(403, "Origin: expected the page's own")
        if request.method == "POST" and not request.is_json:
            flask.abort(415, "expected JSON")
        seat = request.cookies.get(seat_cookie) or request.headers.get("X-Seat") or ""
        flask.g.seat = seat if re.fullmatch(r"[0-9a-zA-Z]{8,32}", seat) else secrets.token_hex(8)

    @app.after_request
    def protect(response: flask.Response) -> flask.Response:
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        if response.status_code < 400 and "seat" in flask.g:
            # Not `Strict`: a link of a page elsewhere, such as a terminal in a browser, leads here.
            settings = {"httponly": True, "samesite": "Lax"}
            if flask.request.cookies.get(seat_cookie) != flask.g.seat:
                response.set_cookie(seat_cookie, flask.g.seat, max_age=_YEAR, **settings)
            if flask.request.cookies.get(cookie) != token:
                response.set_cookie(cookie, token, **settings)
        return response

    @app.errorhandler(HTTPException)
    def tell(error: HTTPException) -> tuple[dict[str, Any], int]:
        return {"error": error.description or error.name}, error.code or 500

    @app.errorhandler(RefusedError)
    def refuse(error: RefusedError) -> tuple[dict[str, Any], int]:
        return {"error": str(error), **error.told}, error.status

    @app.errorhandler(NotSavedError)
    def not_saved(error: NotSavedError) -> tuple[dict[str, Any], int]:
        return {"error": error.strerror or str(error), "saved": False}, 507

    @app.get("/")
    def index() -> Any:
        if "token" in flask.request.args:  # out of the address, the history and screenshots
            return flask.redirect("/", 303)
        return _file("index.html")

    @app.get("/page/<name>")
    def page(name: str) -> flask.Response:
        return _file(name)

    @app.get("/image/<int:index>/<size>")
    def image(index: int, size: str) -> flask.Response:
        album = service.desk.album
        if album is None:  # whether there is such an image is not known yet
            flask.abort(503, "the images are being read")
        if index >= len(album) or size not in SIZES:
            flask.abort(404, "no such image")
        version = album.keys[index][:12]
        if flask.request.args.get("v", version) != version:
            flask.abort(404, "another image has this number now")
        if flask.request.if_none_match.contains(version):
            return _cached(flask.Response(status=304), version)
        try:
            content = album.jpeg(index, size)
        except ChangedError as error:
            flask.abort(410, str(error))
        except ValueError as error:
            flask.abort(404, str(error))
        return _cached(flask.Response(content, mimetype="image/jpeg"), version)

    @app.get("/api/state")
    def state() -> dict[str, Any]:
        return service.state(flask.g.seat, flask.request.args)

    @app.get("/api/class")
    def members() -> dict[str, Any]:
        arguments = flask.request.args
        return service.members(arguments.get("name", ""), max(0, _number(arguments, "start") or 0))

    @app.get("/api/history")
    def history() -> dict[str, Any]:
        return service.history(_number(flask.request.args, "before"))

    desk = service.desk
    _post(app, service, "answer", desk.answer)
    _post(app, service, "correct", desk.correct)
    _post(app, service, "class", desk.change_class)
    _post(app, service, "undo", desk.undo)
    _post(app, service, "goal", desk.set_goal)
    _post(app, service, "export", lambda seat, person, told: service.export(told))
    return app


def _post(
    app: flask.Flask, service: Service, name: str, take: Callable[[str, str, dict], Any]
) -> None:
    """Adds a request that says something; the reply comes when it is on the disk."""

    def answer() -> dict[str, Any]:
        told = flask.request.get_json()
        if not isinstance(told, dict):
            raise RefusedError("expected a JSON object", 400)
        person = told.get("person") or "person"
        try:
            person = names.tidy(person)
        except ValueError as error:
            raise RefusedError(f"person: {error}", 400) from None
        made = take(flask.g.seat, person, told)
        made = made if isinstance(made, dict) else {"saved": made}
        return made | {"state": service.state(flask.g.seat, told)}

    app.add_url_rule(f"/api/{name}", f"post_{name}", answer, methods=["POST"])


def _number(arguments: Any, name: str) -> int | None:
    try:
        return int(arguments[name]) if name in arguments else None
    except ValueError:
        flask.abort(400, f"{name}: expected an integer")


def _file(name: str) -> flask.Response:
    file = PAGE / name
    if name not in {path.name for path in PAGE.iterdir()} or file.suffix not in _TYPES:
        flask.abort(404, "no such file")
    return flask.Response(file.read_bytes(), content_type=_TYPES[file.suffix])


def _cached(response: flask.Response, version: str) -> flask.Response:
    """Says that an image of this address never changes."""
    response.headers["Cache-Control"] = f"private, max-age={_YEAR}, immutable"
    response.set_etag(version)
    return response
