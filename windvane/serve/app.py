"""The web application: pages on runs, and `/predict`."""

from __future__ import annotations

import json
from collections.abc import Mapping
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
FORM_COVERAGE = 0.9  # of the interval that the form shows
_SCRIPT = Path(__file__).with_name("live.js")
_YES, _NO = ("true", "1"), ("false", "0")


class Application:
    """Answers requests about the runs of a folder, or about one run."""

    def __init__(self, root: Path) -> None:
        self.runs, self.models = RunFolder(root), Models()

    def routes(self) -> list[Route]:
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

    async def home(self, request: Request) -> Response:
        """All runs, or the only one."""
        if self.runs.is_one_run:
            return RedirectResponse(run_address(self.runs.names()[0]), 303)
        return HTMLResponse((await run_in_threadpool(self._folder_page)).to_html())

    async def home_main(self, request: Request) -> Response:
        """What changes of the page of all runs."""
        return HTMLResponse((await run_in_threadpool(self._folder_page)).main)

    def _folder_page(self) -> Page:
        return folder_page(self.runs.root.name, self.runs.runs(), list(self.runs.pages()))

    async def run(self, request: Request) -> Response:
        """How far a run is."""
        run = await self._run(request)
        return HTMLResponse((await run_in_threadpool(self._run_page, run)).to_html())

    async def run_main(self, request: Request) -> Response:
        """What changes of the page of a run."""
        run = await self._run(request)
        return HTMLResponse((await run_in_threadpool(self._run_page, run)).main)

    def _run_page(self, run: Run) -> Page:
        return run_page(run, alone=self.runs.is_one_run)

    async def form(self, request: Request) -> Response:
        """The form that predicts one row or image."""
        run = await self._run(request)
        origin = f"{request.url.scheme}://{request.headers.get('host', '')}"
        return HTMLResponse((await run_in_threadpool(self._form_page, run, origin)).to_html())

    def _form_page(self, run: Run, origin: str) -> Page:
        alone = self.runs.is_one_run
        try:
            check_has_model(run)
        except NoModelError as error:
            return no_model_page(run, str(error), alone=alone)
        content = run.content
        if not isinstance(content, SearchSummary) or content.is_of_images:
            return predict_page(run, [], {}, alone=alone, origin=origin)
        schema = content.schema
        fields = make_fields(schema, typical_values(run.folder / "data", schema))
        example = {field.name: field.example for field in fields}
        return predict_page(run, fields, example, alone=alone, origin=origin)

    async def report(self, request: Request) -> Response:
        """The report of a run; a page that waits for it where it is not computed yet."""
        run = await self._run(request)
        if not isinstance(run.content, SearchSummary):
            raise HTTPException(404, f"The run {run.name!r} has no report.")
        try:
            check_has_model(run)
            known = self.models.known_report(run)
            if known is None and "wait" not in request.query_params:
                return HTMLResponse(wait_page(run, alone=self.runs.is_one_run).to_html())
            return HTMLResponse(known or await self.models.report(run))
        except UNREADABLE as error:
            return HTMLResponse(no_model_page(run, str(error), alone=self.runs.is_one_run).to_html(), 503)

    async def run_file(self, request: Request) -> Response:
        """A page in the folder of a run, as of a trained network."""
        run = await self._run(request)
        return await self._file(run.pages, request.path_params["file"])

    async def folder_file(self, request: Request) -> Response:
        """A page beside the runs."""
        return await self._file(self.runs.pages(), request.path_params["file"])

    async def _file(self, pages: Mapping[str, Path], name: str) -> Response:
        if name not in pages:
            raise HTTPException(404, f"There is no page {name!r}.")
        return HTMLResponse(await run_in_threadpool(pages[name].read_bytes))

    async def predict(self, request: Request) -> Response:
        """Predict rows or images."""
        run = await self._run_to_predict(request)
        is_form = _flag(request, "form")
        options = _options(request)
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        is_json = kind == "application/json"
        takes_images = not isinstance(run.content, SearchSummary) or run.content.is_of_images
        if not is_json and not (takes_images and (kind.startswith("image/") or kind == "application/octet-stream")):
            images = ", or image/jpeg and the like" if takes_images else ""
            raise HTTPException(415, f"The content type is {kind or 'missing'}. Allowed: application/json{images}.")
        body = await _read_body(request)
        given = _parse(body) if is_json else None
        rows: list[Any] = given if isinstance(given, list) else [given]

        def work(model: Any) -> list[dict[str, Any]]:
            if takes_images:
                return predict_images(model, decode_rows(rows) if is_json else [decode(body)], options)
            if not is_form:
                return predict_rows(model, rows, options)
            row = read_form(model.predictor_.schema, given if isinstance(given, dict) else {})
            return predict_rows(model, [row], _form_options(model))

        if is_form and takes_images:
            options = Options(proba=True)
        answers = await self.models.use(run, work)
        if is_form:
            return HTMLResponse(answer_html(answers[0], run))
        return JSONResponse(answers if isinstance(given, list) else answers[0])

    async def _run_to_predict(self, request: Request) -> Run:
        name = request.query_params.get("run")
        names = await run_in_threadpool(self.runs.names)
        if name is None and len(names) != 1:
            raise HTTPException(400, f"run is missing. Allowed: {_listed(names)}.")
        return await self._find(names[0] if name is None else name)

    async def _run(self, request: Request) -> Run:
        return await self._find(request.path_params["name"])

    async def _find(self, name: str) -> Run:
        run = await run_in_threadpool(self.runs.run, name)
        if run is None:
            raise HTTPException(404, f"There is no run {name!r}.")
        return run

    async def health(self, request: Request) -> Response:
        return JSONResponse({"status": "ok", "windvane": VERSION, "runs": await run_in_threadpool(self.runs.names)})

    async def script(self, request: Request) -> Response:
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
    if text == HTTPStatus(error.status_code).phrase:  # of an address or a method that no route has
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
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise HTTPException(400, f"The body is not JSON: {reason}.") from error


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
    if hasattr(model, "classes_"):
        return Options(proba=True)
    return Options(interval=FORM_COVERAGE if _has_interval(model) else None)


def _has_interval(model: Any) -> bool:
    uncertainty = model.predictor_.uncertainty
    try:
        return uncertainty is not None and uncertainty.scores.limit(FORM_COVERAGE) is not None
    except WindvaneError:  # too few validation rows
        return False


def _listed(names: list[str]) -> str:
    return ", ".join(f"run={name}" for name in names) or "there is no run yet"
