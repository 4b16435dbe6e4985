"""Access control: by the Host header on loopback, by a token elsewhere; and security headers for every answer."""

from __future__ import annotations

import hashlib
import ipaddress
import secrets
from http import HTTPStatus

from starlette.datastructures import URL, Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from windvane.serve.pages import message_page

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'unsafe-inline'; img-src data: blob:; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Guard:
    """Middleware around the application; `token` is None where it serves this machine alone."""

    def __init__(self, app: ASGIApp, token: str | None) -> None:
        self._app, self._token = app, token
        # All ports of a machine share cookies, and each of its servers has its own token.
        self._cookie = "windvane-" + hashlib.sha256((token or "").encode()).hexdigest()[:12]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the application, or refuse the request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        answer = self._refuse(Request(scope))
        await (answer or self._app)(scope, receive, send_with_headers)

    def _refuse(self, request: Request) -> Response | None:
        if self._token is None:
            # DNS rebinding: a foreign name may lead to this machine, but browsers send that name as the host.
            if _is_this_machine(_host_name(request.headers)):
                return None
            return refusal(request, 403, "This server answers to localhost and 127.0.0.1 only.")
        given = request.query_params.get("token")
        if given is not None and self._is_token(given) and request.method == "GET":
            # The redirect removes the token from the address bar, and so from the history and from copied addresses.
            here = URL(path=request.url.path, query=request.url.query)
            onward = RedirectResponse(here.remove_query_params("token"), status_code=303)
            onward.set_cookie(self._cookie, given, httponly=True, samesite="lax")
            return onward
        bearer = request.headers.get("authorization", "")
        cookie = request.cookies.get(self._cookie)
        candidates = [given, bearer[7:] if bearer[:7].lower() == "bearer " else None, cookie]
        if any(candidate is not None and self._is_token(candidate) for candidate in candidates):
            return None
        answer = refusal(request, 401, "A token is needed: open the address that windvane serve printed.")
        answer.headers["WWW-Authenticate"] = "Bearer"
        return answer

    def _is_token(self, text: str) -> bool:
        return secrets.compare_digest(text.encode("utf-8", "replace"), (self._token or "").encode("utf-8", "replace"))


def refusal(request: Request, status: int, text: str) -> Response:
    """A page for people, JSON for programs."""
    if "text/html" in request.headers.get("accept", ""):
        return HTMLResponse(message_page(HTTPStatus(status).phrase, text).to_html(), status)
    return JSONResponse({"error": text}, status)


def _is_this_machine(name: str) -> bool:
    """Whether a host name can only mean this machine; any other name may have been made to lead here."""
    try:
        return name == "localhost" or ipaddress.ip_address(name.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        return False


def _host_name(headers: Headers) -> str:
    """The host that a request names, without its port, in lower case."""
    name, colon, port = headers.get("host", "").lower().rpartition(":")
    return name if colon and port.isdecimal() else f"{name}{colon}{port}"
