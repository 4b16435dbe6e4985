"""The web application: pages on runs, and `/predict`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from windvane.automl import AutoRegressor
from windvane.errors import InputError, NoModelError, WindvaneError
from windvane.pages.html_builder import Page
from windvane.serve.form import FieldErrors, make_fields, read_form, typical_values
from windvane.serve.guard import Guard, refusal
from windvane.serve.models import Models, check_has_model
from windvane.serve.pages import answer_html, folder_page, no_model_page, predict_page, run_address, run_page, wait_page
from windvane.serve.predictions import Options, decode, decode_rows, predict_images, predict_rows
from windvane.serve.runs import UNREADABLE, Run, RunFolder, SearchSummary
from windvane.version import VERSION

MAX_BODY = 32 * 2**20  # bytes
FORM_COVERAGE = 0.9  # of the prediction interval in the form
_SCRIPT = Path(__file__).with_name("live.js")
_YES, _NO = ("true", "1"), ("false", "0")


class Application:
    """Answers requests about the runs of a folder, or about one run."""

    def __init__(self, root: Path) -> None:
        self.runs, self.models = RunFolder(root), Models()

    def routes(self) -> list[Route]:
        """Return the routes; Starlette calls endpoints that are plain functions in a thread."""
        return [
            Route("/", self.home),
            Route("/live", self.home_main),
            Route("/pages/{file}", self.folder_file),
            Route("/runs/{name}", self.run),
            Route("/runs/{name}/live", self.run_main),
            Route("/runs/{name}/predict", self.form),
            Route("/runs/{name}/report", self.report),
            Route("/runs/{name}/pages/{file}", self.run_file),
            Route("/predict", self.predict, methods=["POST"]),
            Route("/health", self.health),
            Route("/live.js", self.script),
        ]

    def home(self, request: Request) -> Response:
        """All runs, or the only one."""
        if self.runs.is_one_run:
            return RedirectResponse(run_address(self.runs.names()[0]), 303)
        return HTMLResponse(self._folder_page().to_html())

    def home_main(self, request: Request) -> Response:
        """The sections of the page of all runs, which its script fetches."""
        return HTMLResponse(self._folder_page().main)

    def _folder_page(self) -> Page:
        return folder_page(self.runs.root.name, self.runs.runs(), list(self.runs.pages()))

    def run(self, request: Request) -> Response:
        """The page of a run: its progress and leaderboard."""
        return HTMLResponse(run_page(self._run(request)).to_html())

    def run_main(self, request: Request) -> Response:
        """The sections of the page of a run, which its script fetches."""
        return HTMLResponse(run_page(self._run(request)).main)

    def form(self, request: Request) -> Response:
        """The form that predicts one row or image."""
        run = self._run(request)
        try:
            check_has_model(run)
        except NoModelError as error:
            return HTMLResponse(no_model_page(run, str(error)).to_html())
        fields = []
        if isinstance(run.content, SearchSummary) and not run.takes_images:
            schema = run.content.schema
            fields = make_fields(schema, typical_values(run.folder / "data", schema))
        origin = f"{request.url.scheme}://{request.headers.get('host', '')}"
        return HTMLResponse(predict_page(run, fields, origin).to_html())

    async def report(self, request: Request) -> Response:
        """The report of a run; a page that waits for it where it is not computed yet."""
        run = await run_in_threadpool(self._run, request)
        if not isinstance(run.content, SearchSummary):
            raise HTTPException(404, f"The run {run.name!r} has no report.")
        try:
            check_has_model(run)
            known = self.models.known_report(run)
            if known is None and "wait" not in request.query_params:
                return HTMLResponse(wait_page(run).to_html())
            return HTMLResponse(known or await self.models.report(run))
        except UNREADABLE as error:
            return HTMLResponse(no_model_page(run, str(error)).to_html(), 503)

    def run_file(self, request: Request) -> Response:
        """A page that the run wrote."""
        return _file(self._run(request).pages, request.path_params["file"])

    def folder_file(self, request: Request) -> Response:
        """A page beside the runs."""
        return _file(self.runs.pages(), request.path_params["file"])

    async def predict(self, request: Request) -> Response:
        """Predict rows or images."""
        run = await run_in_threadpool(self._run_to_predict, request)
        is_form = _flag(request, "form")
        options = _options(request)
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        is_json = kind == "application/json"
        is_image = run.takes_images and (kind.startswith("image/") or kind == "application/octet-stream")
        if not is_json and not is_image:
            images = ", or image/jpeg and the like" if run.takes_images else ""
            raise HTTPException(415, f"The content type is {kind or 'missing'}. Allowed: application/json{images}.")
        body = await _read_body(request)
        given = _parse(body) if is_json else None

        def work(model: Any) -> list[dict[str, Any]]:
            asked = _form_options(model) if is_form else options
            rows: list[Any] = given if isinstance(given, list) else [given]
            if run.takes_images:
                return predict_images(model, decode_rows(rows) if is_json else [decode(body)], asked)
            if is_form:
                rows = [read_form(model.predictor_.schema, given if isinstance(given, dict) else {})]
            return predict_rows(model, rows, asked)

        answers = await self.models.use(run, work)
        if is_form:
            return HTMLResponse(answer_html(answers[0], run, FORM_COVERAGE))
        return JSONResponse(answers if isinstance(given, list) else answers[0])

    def _run_to_predict(self, request: Request) -> Run:
        name = request.query_params.get("run")
        if name is None:
            names = self.runs.names()
            if len(names) != 1:
                allowed = ", ".join(f"run={one}" for one in names) or "there is no run yet"
                raise HTTPException(400, f"run is missing. Allowed: {allowed}.")
            name = names[0]
        return self._find(name)

    def _run(self, request: Request) -> Run:
        return self._find(request.path_params["name"])

    def _find(self, name: str) -> Run:
        run = self.runs.run(name)
        if run is None:
            raise HTTPException(404, f"There is no run {name!r}.")
        return run

    def health(self, request: Request) -> Response:
        """The version, and the names of the runs."""
        return JSONResponse({"status": "ok", "windvane": VERSION, "runs": self.runs.names()})

    def script(self, request: Request) -> Response:
        """The script of the pages."""
        return Response(_SCRIPT.read_bytes(), media_type="text/javascript")


def create_app(root: Path, token: str | None = None) -> Starlette:
    """Make the application of a run or a folder of runs; without a token it answers to this machine alone."""
    app = Starlette(
        routes=Application(root).routes(),
        middleware=[Middleware(Guard, token=token)],
        exception_handlers={HTTPException: _http_error, WindvaneError: _windvane_error},
    )
    app.router.redirect_slashes = False
    return app


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    text = error.detail
    if text == HTTPStatus(error.status_code).phrase:  # no route has this address, or this method
        texts = {404: "There is nothing at this address.", 405: f"{request.method} is not allowed here."}
        text = texts.get(error.status_code, text)
    answer = refusal(request, error.status_code, text)
    answer.headers.update(error.headers or {})
    return answer


async def _windvane_error(request: Request, error: Exception) -> Response:
    """What the caller sent is wrong (400), or the model cannot be used now (503)."""
    if isinstance(error, FieldErrors):
        return JSONResponse({"error": str(error), "columns": error.columns}, 400)
    return refusal(request, 400 if isinstance(error, InputError) else 503, str(error))


def _file(pages: Mapping[str, Path], name: str) -> Response:
    if name not in pages:
        raise HTTPException(404, f"There is no page {name!r}.")
    return HTMLResponse(pages[name].read_bytes())


async def _read_body(request: Request) -> bytes:
    """Read the body, of `MAX_BODY` bytes at most."""
    text = f"The body is larger than {MAX_BODY // 2**20} MB. Allowed: fewer rows at a time, or windvane predict."
    length = request.headers.get("content-length", "0")
    if not length.isdecimal() or int(length[:20]) > MAX_BODY:
        raise HTTPException(413, text)
    parts, size = [], 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > MAX_BODY:
                raise HTTPException(413, text)
            parts.append(part)
    except ClientDisconnect as error:
        raise HTTPException(400, "The connection ended before the body did.") from error
    return b"".join(parts)


def _parse(body: bytes) -> Any:
    try:
        return json.loads(body)
    except RecursionError as error:
        raise HTTPException(400, "The body is not JSON: it is nested too deeply.") from error
    except ValueError as error:
        raise HTTPException(400, f"The body is not JSON: {error}.") from error


def _flag(request: Request, name: str) -> bool:
    value = request.query_params.get(name, "false").lower()
    if value not in (*_YES, *_NO):
        raise HTTPException(400, f"{name}={value!r} is not usable. Allowed: true or false.")
    return value in _YES


def _options(request: Request) -> Options:
    text = request.query_params.get("interval")
    try:
        interval = None if text is None else float(text)
    except ValueError as error:
        raise HTTPException(400, f"interval={text!r} is not usable. Allowed: a number above 0 and below 1.") from error
    return Options(_flag(request, "proba"), interval)


def _form_options(model: Any) -> Options:
    """What the form shows beside the prediction: probabilities, or an interval where the model has one."""
    if not isinstance(model, AutoRegressor):
        return Options(proba=True)
    uncertainty = model.predictor_.uncertainty
    with suppress(WindvaneError):  # too few validation rows
        if uncertainty is not None:
            uncertainty.scores.limit(FORM_COVERAGE)
            return Options(interval=FORM_COVERAGE)
    return Options()
