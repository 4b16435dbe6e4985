"""Every address of the live view, what it refuses, and what attackers try."""

from __future__ import annotations

import base64
import html
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from served import ORIGIN, ROW, rows
from starlette.testclient import TestClient
from toys import HOSTILE_LABEL, HOSTILE_NAME

from windvane import load
from windvane.serve import app, models
from windvane.serve.app import create_app
from windvane.serve.form import make_fields, typical_values

PAGES = ("/", "/live", "/runs/classes", "/runs/classes/live", "/runs/classes/predict", "/runs/classes/report")
JSON = {"Content-Type": "application/json"}


def post(client: TestClient, query: str, body: Any, **headers: str) -> Any:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return client.post(f"/predict?{query}", content=content, headers={**JSON, **headers})


# Pages.


def test_folder(client: TestClient) -> None:
    page = client.get("/").text
    for name in ("classes", "number", "saved%20model%3F", "running", "waiting", "network", "damaged"):
        assert f'href="/runs/{name}"' in page
    assert page.index("/runs/running") < page.index("/runs/classes"), "running ones come first"
    for absent in ("link", "empty", "foreign.html", "secret"):
        assert f"/{absent}" not in page
    assert 'href="/pages/inspect.html"' in page
    assert "two networks" in client.get("/pages/inspect.html").text
    assert re.sub(r"\d", "", client.get("/live").text) in re.sub(r"\d", "", page), "the same but for the time"


@pytest.mark.parametrize("name", ["classes", "number", "saved%20model%3F", "running", "waiting", "network", "damaged"])
def test_pages_of_a_run(client: TestClient, name: str) -> None:
    whole, main = client.get(f"/runs/{name}"), client.get(f"/runs/{name}/live")
    assert (whole.status_code, main.status_code) == (200, 200)
    assert f'data-live="/runs/{name}/live"' in whole.text
    form = client.get(f"/runs/{name}/predict")
    assert form.status_code == 200
    for text in (whole.text, form.text):
        assert HOSTILE_NAME not in text and HOSTILE_LABEL not in text
        assert text.count("<script") == 1, "the only script is that of the page"


def test_finished_run(client: TestClient) -> None:
    text = client.get("/runs/classes").text
    assert "Test ROC AUC" in text and "Validation ROC AUC" in text and "linear #0" in text and "Overview" in text


def test_running_run(client: TestClient) -> None:
    text = client.get("/runs/running").text
    assert "of the best trial, linear #0" in text and "The search is running" in text and "progressbar" in text
    assert " left<" in text and "of 10 min 00 s, 1 worker" in text
    waiting = client.get("/runs/waiting").text
    assert "no model yet" in waiting and ">0<" in waiting
    for name in ("running", "waiting"):
        assert "still searching" in client.get(f"/runs/{name}/predict").text
        assert client.get(f"/runs/{name}/report").status_code == 503


def test_run_that_was_killed(tmp_path: Path, folder: Path) -> None:
    shutil.copytree(folder / "running", tmp_path / "runs" / "a")
    (tmp_path / "runs" / "a" / "lock").write_text("999999999")
    with TestClient(create_app(tmp_path / "runs"), base_url=ORIGIN) as client:
        assert "ended without its final ensemble" in client.get("/runs/a").text
        assert post(client, "", ROW).status_code == 200, "its trials are a model all the same"


def test_network(client: TestClient) -> None:
    text = client.get("/runs/network").text
    assert "75.0%" in text and "50% trained" in text and text.count("<svg") == 2
    assert 'href="/runs/network/pages/page.html"' in text
    assert client.get("/runs/network/pages/page.html").status_code == 200
    assert 'type="file"' in client.get("/runs/network/predict").text
    assert client.get("/runs/network/report").status_code == 404


def test_damaged_network(tmp_path: Path, folder: Path) -> None:
    shutil.copytree(folder / "network", tmp_path / "runs" / "a")
    with TestClient(create_app(tmp_path / "runs"), base_url=ORIGIN) as client:
        for text in ("epoch\n1\n", "", "\0", "epoch,progress\nx,y\n"):
            (tmp_path / "runs" / "a" / "metrics.csv").write_text(text)
            assert "75.0%" in client.get("/runs/a").text
            assert "accuracy 0.75" in client.get("/").text
        manifest = tmp_path / "runs" / "a" / "manifest.json"
        manifest.write_text(manifest.read_text().replace("cat", "cow"))
        assert "Not readable" in client.get("/runs/a").text
        assert "not readable" in client.get("/").text


def test_damaged_run(client: TestClient) -> None:
    assert "damaged" in client.get("/runs/damaged").text
    answer = post(client, "run=damaged", {})
    assert (answer.status_code, "cannot be read" in answer.json()["error"]) == (503, True)


def test_one_run(folder: Path) -> None:
    with TestClient(create_app(folder / "classes"), base_url=ORIGIN, follow_redirects=False) as client:
        assert client.get("/").headers["location"] == "/runs/classes"
        assert "All runs" not in client.get("/runs/classes").text
        assert post(client, "", ROW).json()["prediction"] in (HOSTILE_LABEL, "good"), "run= may be left out"


def test_run_that_begins_later(tmp_path: Path, folder: Path) -> None:
    with TestClient(create_app(tmp_path / "root"), base_url=ORIGIN) as client:
        assert "no run in this folder yet" in client.get("/").text
        shutil.copytree(folder / "classes", tmp_path / "root" / "classes")
        assert "/runs/classes" in client.get("/live").text


def test_trials_appear_while_the_search_runs(tmp_path: Path, folder: Path) -> None:
    shutil.copytree(folder / "running", tmp_path / "runs" / "a")
    history = tmp_path / "runs" / "a" / "history.jsonl"
    line = history.read_text()
    with TestClient(create_app(tmp_path / "runs"), base_url=ORIGIN) as client:
        history.write_text(line[: len(line) // 2])  # as a kill leaves it
        assert "no model yet" in client.get("/runs/a/live").text
        history.write_text(line + line[:30])
        assert "linear #0" in client.get("/runs/a/live").text
    files = {path.name: path.stat().st_mtime_ns for path in (folder / "running").iterdir()}
    copy = {path.name: path.stat().st_mtime_ns for path in history.parent.iterdir() if path != history}
    assert copy == {name: files[name] for name in copy}, "nothing is written"


def test_report(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    built = []
    real = models.build_report
    monkeypatch.setattr(models, "build_report", lambda data: built.append(1) or real(data))  # type: ignore[func-returns-value]
    waiting = client.get("/runs/number/report").text
    assert 'data-next="/runs/number/report?wait=1"' in waiting
    report = client.get("/runs/number/report?wait=1").text
    assert "Versions and settings" in report
    assert client.get("/runs/number/report").text == report, "it is computed once"
    assert len(built) == 1


# Predictions.


def test_rows_are_predicted_as_by_predict(client: TestClient, folder: Path) -> None:
    X, model = rows(9), load(folder / "classes")
    records = X.to_dict("records")
    answers = post(client, "run=classes&proba=true", records).json()
    assert [answer["prediction"] for answer in answers] == model.predict(X).tolist()
    shares = [[answer["probabilities"][str(label)] for label in model.classes_] for answer in answers]
    np.testing.assert_allclose(shares, model.predict_proba(X), rtol=1e-12)
    one = post(client, "run=classes", {**records[3], "not a column": "x"}).json()
    assert one == {"prediction": answers[3]["prediction"]}


def test_missing_values(client: TestClient, folder: Path) -> None:
    row = {**ROW, "size": None, "colour": "a new one"}
    expected = load(folder / "classes").predict_proba(pd.DataFrame([row]))[0]
    answer = post(client, "run=classes&proba=1", row).json()
    np.testing.assert_allclose(sorted(answer["probabilities"].values()), sorted(expected), rtol=1e-12)


def test_numbers_have_intervals(client: TestClient) -> None:
    answers = post(client, "run=number&interval=0.8", [{"0": 0.5, "1": "red"}, {"0": "0.5", "1": "red"}]).json()
    assert answers[0] == answers[1]
    assert answers[0]["lower"] < answers[0]["prediction"] < answers[0]["upper"]
    error = post(client, "run=number", {"size": 0.5, "colour": "red"}).json()["error"]
    assert "name its columns by position, '0', '1'" in error, "an object has no order to go by"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({**ROW, "size": "wide"}, "Column 'size' holds 'wide'"),
        ({**ROW, "day": "2025-12-24"}, "Column 'day' holds '2025-12-24'"),
        ({**ROW, "price": "1,234.5"}, "Column 'price' holds '1,234.5'"),
        ({**ROW, "size": [1]}, "Column 'size' holds a list in row 0"),
        ([ROW, {**ROW, "size": {}}], "Column 'size' holds an object in row 1"),
        ({"size": 1}, "X lacks 4 of the 5 columns"),
        ([ROW, 3], "Row 1 is a number. Allowed: an object"),
        ([], "The list is empty"),
        ({}, "The rows have no column"),
        ("text", "Row 0 is a text"),
        (None, "Row 0 is null"),
        (b"{", "The body is not JSON"),
        (b"", "The body is not JSON"),
        (b"\xff", "The body is not JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"size": 1' + b"0" * 5000 + b"}", "The body is not JSON"),
        ({**ROW, "size": 10**400}, "Column 'size' holds an integer beyond the range"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_bad_bodies(client: TestClient, body: Any, text: str) -> None:
    answer = post(client, "run=classes", body)
    assert (answer.status_code, text in answer.json()["error"]) == (400, True), answer.text


@pytest.mark.parametrize(
    ("query", "status", "text"),
    [
        ("", 400, "run is missing. Allowed: run=classes, run=damaged"),
        ("run=none", 404, "There is no run 'none'"),
        ("run=..%2Fruns%2Fclasses", 404, "There is no run"),
        ("run=classes&proba=perhaps", 400, "proba='perhaps' is not usable"),
        ("run=classes&interval=0.9", 400, "interval is for numbers"),
        ("run=number&proba=true", 400, "proba=true is for classes"),
        ("run=number&interval=2", 400, "interval=2.0 is not usable"),
        ("run=number&interval=x", 400, "interval='x' is not usable"),
        ("run=running", 503, "still searching"),
    ],
)
def test_bad_queries(client: TestClient, query: str, status: int, text: str) -> None:
    answer = post(client, query, ROW)
    assert (answer.status_code, text in answer.json()["error"]) == (status, True), answer.text


def test_large_bodies(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "MAX_BODY", 1000)
    for body in (b"x" * 1001, iter([b"x" * 600, b"x" * 600])):  # with a length, and without one
        answer = client.post("/predict?run=classes", content=body, headers=JSON)
        assert (answer.status_code, "larger than" in answer.json()["error"]) == (413, True)
    answer = post(client, "run=classes", b"{}", **{"Content-Length": "9" * 30})
    assert answer.status_code == 413


def test_content_types(client: TestClient) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "image/png", ""):
        answer = client.post("/predict?run=classes", content=b"{}", headers={"Content-Type": kind})
        assert (answer.status_code, "Allowed: application/json." in answer.json()["error"]) == (415, True)


def test_model_is_opened_again_when_it_changes(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    real = models.open_model
    monkeypatch.setattr(models, "open_model", lambda run: opened.append(run.name) or real(run))  # type: ignore[func-returns-value]
    shutil.copytree(folder / "classes", tmp_path / "runs" / "a")
    with TestClient(create_app(tmp_path / "runs"), base_url=ORIGIN) as client:
        assert not opened, "lazily"
        before = [post(client, "run=a", ROW).json() for _ in range(3)]
        assert (opened, len({str(one) for one in before})) == (["a"], 1)
        load(tmp_path / "runs" / "a").set_threshold(1e-9)
        assert post(client, "run=a&proba=1", ROW).status_code == 200
        assert opened == ["a", "a"]
        shutil.rmtree(tmp_path / "runs" / "a")
        assert post(client, "run=a", ROW).status_code == 404


# The form.


def test_form_has_a_field_for_each_column(client: TestClient) -> None:
    text = client.get("/runs/classes/predict").text
    assert text.count("data-column=") == len(ROW)
    assert '<option value="red" selected="">red</option>' in text, "the most frequent one"
    assert 'type="date"' in text and 'value="2025-' in text
    assert "written as 1.234,5" in text and "curl" in text
    saved = client.get("/runs/saved%20model%3F/predict").text
    assert "selected" not in saved and saved.count("data-column=") == len(ROW), "nothing typical is known"


def test_typical_values_are_predicted(client: TestClient, folder: Path) -> None:
    schema = load(folder / "classes").predictor_.schema
    fields = make_fields(schema, typical_values(folder / "classes" / "data", schema))
    assert all(field.value for field in fields)
    filled = post(client, "run=classes&form=1", {field.name: field.value for field in fields})
    assert filled.status_code == 200, filled.text
    sent = post(client, "run=classes", {field.name: field.example for field in fields})
    shown = sent.json()["prediction"]
    assert f"<dd>{html.escape(shown)}</dd>" in filled.text
    assert HOSTILE_LABEL not in filled.text


def test_errors_of_the_form_are_by_column(client: TestClient) -> None:
    answer = post(client, "run=classes&form=1", {**ROW, "size": "wide", "day": "soon", "price": "a lot"})
    assert answer.status_code == 400
    assert set(answer.json()["columns"]) == {"size", "day", "price"}
    assert "must be a number" in answer.json()["columns"]["size"]


def test_form_of_a_number_has_an_interval(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"0": "0.5", "1": "red"}
    assert "90 % interval" in post(client, "run=number&form=1", row).text
    monkeypatch.setattr(app, "FORM_COVERAGE", 0.8)
    assert "80 % interval" in post(client, "run=number&form=1", row).text


# Images.


def test_images(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    seen = []

    def predict(model: Any, images: Any, options: Any) -> list[dict[str, Any]]:
        seen.append(([image.shape for image in images], options.proba))
        return [{"prediction": "cat", "probabilities": {"cat": 0.75, "dog": 0.25}} for _ in images]

    monkeypatch.setattr(models, "open_model", lambda run: None)
    monkeypatch.setattr(app, "predict_images", predict)
    buffer = io.BytesIO()
    Image.new("RGB", (6, 4)).save(buffer, "PNG")
    image = buffer.getvalue()
    assert post(client, "run=network", image, **{"Content-Type": "image/png"}).json()["prediction"] == "cat"
    form = post(client, "run=network&form=1", image, **{"Content-Type": "application/octet-stream"})
    assert "75.0%" in form.text and form.headers["content-type"].startswith("text/html")
    many = post(client, "run=network", [{"image": base64.b64encode(image).decode()}] * 2).json()
    assert len(many) == 2
    assert seen == [([(4, 6, 3)], False), ([(4, 6, 3)], True), ([(4, 6, 3), (4, 6, 3)], False)]
    for body, text in (({"image": "?"}, "is not base64"), ({"file": "x"}, 'no text "image"'), ([], "list is empty")):
        answer = post(client, "run=network", body)
        assert (answer.status_code, text in answer.json()["error"]) == (400, True)
    bad = post(client, "run=network", b"no image", **{"Content-Type": "image/png"})
    assert (bad.status_code, "The image cannot be read" in bad.json()["error"]) == (400, True)


# Attacks.


def test_headers(client: TestClient) -> None:
    for path in (*PAGES, "/health", "/live.js", "/nothing"):
        headers = client.get(path).headers
        assert "script-src 'self'" in headers["content-security-policy"]
        assert "unsafe-inline'; script" not in headers["content-security-policy"]
        assert (headers["x-frame-options"], headers["referrer-policy"]) == ("DENY", "no-referrer")


def test_pages_load_nothing_from_elsewhere(client: TestClient) -> None:
    for path in PAGES:
        assert "//" not in client.get(path).text.replace(ORIGIN, "").replace("http://www.w3.org", "")


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "", "localhost.evil", "[::2]:8321", "10.0.0.1"]
)
def test_other_hosts_are_refused(client: TestClient, host: str) -> None:
    for answer in (client.get("/", headers={"Host": host}), post(client, "run=classes", ROW, Host=host)):
        assert answer.status_code == 403


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:8321", "127.0.0.2", "[::1]:9", "[::1]"])
def test_own_hosts_are_answered(client: TestClient, host: str) -> None:
    assert client.get("/health", headers={"Host": host}).json()["status"] == "ok"


@pytest.mark.parametrize(
    "path",
    [
        "/runs/..%2f..%2foutside0%2fsecret",
        "/runs/%2e%2e",
        "/runs/../runs/classes",
        "/runs/link",
        "/runs/link/predict",
        "/runs/empty",
        "/runs/classes/pages/..%2f..%2finspect.html",
        "/runs/classes/pages/manifest.json",
        "/pages/link.html",
        "/pages/foreign.html",
        "/pages/..%2f..%2fetc%2fpasswd",
        "/pages/%2fetc%2fpasswd",
        "/runs/classes%00",
        "/runs//etc/passwd",
        "/static/live.js",
    ],
)
def test_nothing_outside_the_list_is_found(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404 or "secret" not in answer.text
    if ".." not in path.replace("%2f", ""):
        assert answer.status_code == 404


def test_methods(client: TestClient) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        for path in (*PAGES, "/health"):
            assert client.request(method, path).status_code == 405
    assert client.get("/predict").status_code == 405
    assert "POST" in client.get("/predict").headers["allow"]


def test_token(folder: Path) -> None:
    token = "a long secret"
    with TestClient(create_app(folder, token), base_url="http://elsewhere:80", follow_redirects=False) as client:
        for wrong in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": token}, {"Cookie": "windvane=x"}):
            for path in (*PAGES, "/health", "/live.js"):
                answer = client.get(path, headers=wrong)
                assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert client.get("/?token=wrong").status_code == 401
        assert post(client, "run=classes", ROW).status_code == 401
        bearer = {"Authorization": f"Bearer {token}"}
        assert client.get("/health", headers=bearer).status_code == 200
        assert post(client, "run=classes", ROW, **bearer).status_code == 200
        assert client.post("/predict", params={"run": "classes", "token": token}, json=ROW).status_code == 200
        first = client.get("/runs/classes", params={"token": token, "a": "b c"})
        assert (first.status_code, first.headers["location"]) == (303, "/runs/classes?a=b+c")
        cookie = first.headers["set-cookie"]
        assert "HttpOnly" in cookie and "SameSite=lax" in cookie
        assert client.get("/runs/classes").status_code == 200, "the cookie opens it from now on"


def test_refusals_are_pages_for_people(client: TestClient) -> None:
    answer = client.get("/runs/none", headers={"Accept": "text/html"})
    assert (answer.status_code, "There is no run" in answer.text) == (404, True)
    assert answer.headers["content-type"].startswith("text/html")
