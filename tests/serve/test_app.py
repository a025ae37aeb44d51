"""The service: the answers are those of predict, every limit is told, nothing leaks."""

from __future__ import annotations

import base64
import io
import json
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from numpy.typing import NDArray
from PIL import Image

from resnetkit.classifier import Classifier, classifier_of
from resnetkit.data.transforms import Preprocess
from resnetkit.errors import BadRequest
from resnetkit.load import LoadedModel
from resnetkit.predict import Prediction, predict
from resnetkit.serve.app import build_app
from resnetkit.serve.batches import Batches, Full
from resnetkit.serve.limits import Limits
from resnetkit.serve.slot import Slot
from services import png
from test_export import NAMES, PREPROCESS, loaded, photos, weights  # fixtures

__all__ = ["loaded", "photos", "weights"]

SHARED = Path(__file__).parents[3] / "shared" / "data"
LIMITS = Limits(body_bytes=200_000, images=4, waiting=8, batch_size=4, seconds=5)


def served(model: Classifier, limits: Limits = LIMITS, api_key: str | None = None) -> TestClient:
    return TestClient(build_app(Slot(lambda: model), limits, api_key), raise_server_exceptions=False)


@pytest.fixture(scope="module")
def model(loaded: LoadedModel) -> Classifier:
    return classifier_of(loaded)


@pytest.fixture(scope="module")
def client(model: Classifier) -> Iterator[TestClient]:
    with served(model) as client:
        yield client


def form(*images: bytes) -> Any:
    return [("image", (f"{number}.png", data, "image/png")) for number, data in enumerate(images)]


def test_answers_are_those_of_predict_in_every_form(client: TestClient, model: Classifier, photos: Path) -> None:
    files = sorted(photos.rglob("*.png"))
    wanted = {outcome.file: outcome for outcome in predict(model.engine, [str(file) for file in files], top_k=3)}
    for start in range(0, len(files), 3):
        some = files[start : start + 3]
        contents = [file.read_bytes() for file in some]
        texts = [base64.b64encode(data).decode() for data in contents]
        answers = [client.post("/v1/predict?top=3", files=form(*contents)),
                   client.post("/v1/predict?top=3", json={"images": texts})]  # fmt: skip
        singles = [client.post("/v1/predict?top=3", content=data, headers={"content-type": "image/png"})
                   for data in contents]  # fmt: skip
        rows = [answer.json()["predictions"] for answer in answers]
        rows.append([single.json()["predictions"][0] for single in singles])
        for said in rows:
            assert len(said) == len(some)
            for row, file in zip(said, some, strict=True):
                expected = wanted[str(file)]
                assert isinstance(expected, Prediction)
                assert [chance["index"] for chance in row["classes"]] == list(expected.classes)
                assert [chance["name"] for chance in row["classes"]] == [NAMES[index] for index in expected.classes]
                np.testing.assert_allclose([chance["prob"] for chance in row["classes"]], expected.probs, rtol=1e-4)


@pytest.mark.parametrize("archive", ["imagenet-samples.tar", "tricky-images.tar"])
def test_answers_are_those_of_predict_on_what_was_given(archive: str, model: Classifier, tmp_path: Path) -> None:
    """The 200 photos, and pictures that are odd in every way: the same classes, or the same reason."""
    source = SHARED / archive
    if not source.is_file():
        pytest.skip(f"{archive} is not here")
    with tarfile.open(source) as opened:
        opened.extractall(tmp_path, filter="data")
    files = sorted(file for file in tmp_path.rglob("*") if file.is_file() and file.suffix != ".txt")
    assert len(files) >= 20
    answered = 0
    with served(model, replace(LIMITS, body_bytes=50_000_000, seconds=60)) as client:
        for file, outcome in zip(files, predict(model.engine, [str(file) for file in files], top_k=3), strict=True):
            answer = client.post("/v1/predict?top=3", content=file.read_bytes())
            if isinstance(outcome, Prediction):
                said = answer.json()["predictions"][0]["classes"]
                assert [chance["index"] for chance in said] == list(outcome.classes), file
                np.testing.assert_allclose([chance["prob"] for chance in said], outcome.probs, rtol=1e-4)
                answered += 1
            else:
                assert 400 <= answer.status_code < 500, (file, answer.text)
                error = answer.json()["error"]
                assert "; ".join((error["what"].removeprefix("image: "), *error["details"])) == outcome.reason or (
                    not file.stat().st_size
                )
    assert answered >= 20


def test_a_bad_image_does_not_harm_its_neighbours(client: TestClient) -> None:
    good, cut = png(), png((200, 10, 10))[:60]
    alone = client.post("/v1/predict", files=form(good)).json()["predictions"][0]["classes"]
    answer = client.post("/v1/predict", files=form(cut, good, b"text"))
    assert answer.status_code == 200
    first, second, third = answer.json()["predictions"]
    assert "damaged" in first["error"]["what"] and "known format" in third["error"]["what"]
    assert [chance["name"] for chance in second["classes"]] == [chance["name"] for chance in alone]


def header(width: int, height: int) -> bytes:
    data = bytearray(png())
    data[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    import zlib

    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


REFUSALS: list[tuple[str, dict[str, Any], int, str]] = [
    ("", {"content": b""}, 400, "empty"),
    ("", {"content": b"hello", "headers": {"content-type": "image/jpeg"}}, 415, "known format"),
    ("", {"content": b"hello", "headers": {"content-type": "text/html"}}, 415, "text/html" [5:]),
    ("", {"content": png()[:60]}, 422, "damaged"),
    ("", {"content": header(50_000, 50_000)}, 413, "pixels"),
    ("", {"content": b"x" * 200_001}, 413, "200,001 bytes"),
    ("", {"files": form(*[png()] * 5)}, 413, ""),
    ("", {"json": {"images": ["?"]}}, 400, "not base64"),
    ("", {"json": {"images": "x"}}, 400, "expected"),
    ("", {"json": ["x"]}, 400, "expected"),
    ("", {"json": {"images": []}}, 400, "no image"),
    ("", {"json": {"images": [""] * 5}}, 413, "5 images"),
    ("", {"content": b"{", "headers": {"content-type": "application/json"}}, 400, "not JSON"),
    ("", {"content": b"x", "headers": {"content-type": "multipart/form-data"}}, 400, "form"),
    ("", {"content": b"x", "headers": {"content-type": "multipart/form-data; boundary=x"}}, 400, ""),
    ("", {"files": [("image", (None, "text"))]}, 400, "no files"),
    ("?top=0", {"content": png()}, 400, "top"),
    ("?top=x", {"content": png()}, 400, "top"),
]  # fmt: skip


@pytest.mark.parametrize(("query", "request_", "status", "said"), REFUSALS)
def test_what_cannot_be_answered_is_refused_with_the_reason(
    client: TestClient, query: str, request_: dict[str, Any], status: int, said: str
) -> None:
    answer = client.post(f"/v1/predict{query}", **request_)
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"what", "details"} and said in json.dumps(error)
    assert "/" + "home" not in answer.text and "Traceback" not in answer.text and ".py" not in answer.text


def test_a_body_without_a_length_is_counted_as_it_comes(client: TestClient) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(1000):
            sent += 1
            yield bytes(10_000)

    assert client.post("/v1/predict", content=endless()).status_code == 413


@pytest.mark.parametrize("name", ["../../etc/passwd", "C:\\secret\\a.png", "a\x1b[2Jb.png", "é" * 300])
def test_names_of_files_are_given_back_harmless(client: TestClient, name: str) -> None:
    answer = client.post("/v1/predict", files=[("image", (name, png(), "image/png"))])
    if answer.status_code == 200:
        given = answer.json()["predictions"][0]["file"]
        assert "/" not in given and "\\" not in given and given.isprintable() and len(given) <= 200
    else:
        assert answer.status_code == 400


# --- explain ---


def test_an_explanation_has_numbers_and_a_picture(client: TestClient, model: Classifier) -> None:
    answer = client.post("/v1/explain?index=2&top=2", content=png())
    assert answer.status_code == 200
    said = answer.json()
    assert said["explained"]["index"] == 2 and said["explained"]["name"] == NAMES[2] and len(said["classes"]) == 2
    heat = np.array(said["heat"])
    assert heat.ndim == 2 and heat.min() >= 0 and heat.max() <= 1
    with Image.open(io.BytesIO(base64.b64decode(said["overlay_png"]))) as picture:
        assert picture.size == (448, 448) and picture.mode == "RGB"
    likely = client.post("/v1/explain", content=png()).json()
    assert likely["explained"] == likely["classes"][0]


def test_what_cannot_be_explained_is_refused(client: TestClient, model: Classifier) -> None:
    assert client.post("/v1/explain?index=3", content=png()).status_code == 400
    assert client.post("/v1/explain", files=form(png(), png())).status_code == 400
    assert client.post("/v1/explain", content=b"text").status_code == 415
    with served(replace(model, engine=Slow())) as other:
        answer = other.post("/v1/explain", content=png())
        assert answer.status_code == 501 and "--last-map" in answer.text


# --- the other routes ---


def test_the_card_says_what_the_model_is_and_not_where(client: TestClient, model: Classifier, weights: Path) -> None:
    answer = client.get("/v1/model")
    said = answer.json()
    assert said["classes"] == list(NAMES) and said["engine"] == "torch" and said["image_size"] == PREPROCESS.image_size
    assert said["weights_sha256"] == model.sha256 and "resnet4_tiny" in said["model"]
    assert str(weights) not in answer.text and str(weights.parent) not in answer.text


def test_health_metrics_and_pages(client: TestClient) -> None:
    assert client.get("/healthz").json() == {"status": "alive"}
    assert client.get("/readyz").json() == {"status": "ready"}
    client.post("/v1/predict", content=png())
    counted = client.get("/metrics").text
    assert 'resnetkit_requests_total{route="predict",status="200"}' in counted
    assert "resnetkit_images_waiting 0.0" in counted and "resnetkit_batch_images_bucket" in counted
    for path in ("/", "/app.js", "/app.css", "/docs", "/docs.js"):
        page = client.get(path)
        assert page.status_code == 200 and "http://" not in page.text and "https://" not in page.text
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert page.headers["x-content-type-options"] == "nosniff"
    assert set(client.get("/openapi.json").json()["paths"]) == {
        "/v1/predict", "/v1/explain", "/v1/model", "/healthz", "/readyz", "/metrics"}  # fmt: skip
    assert client.get("/nowhere").json()["error"]["what"] == "Not Found"
    assert client.get("/v1/predict").status_code == 405
    allowed = client.options("/v1/predict", headers={"Origin": "http://evil", "Access-Control-Request-Method": "POST"})
    assert "access-control-allow-origin" not in allowed.headers


def test_a_key_is_asked_for_where_one_is_set(model: Classifier) -> None:
    with served(model, api_key="sesame") as client:
        for headers in ({}, {"X-API-Key": "other"}, {"Authorization": "Bearer other"}, {"Authorization": "sesame"}):
            answers = [client.get(path, headers=headers) for path in ("/v1/model", "/metrics")]
            for answer in (*answers, client.post("/v1/predict", content=png(), headers=headers)):
                assert answer.status_code == 401
        assert client.get("/").status_code == client.get("/healthz").status_code == 200
    with served(model, api_key="sesame") as client:
        for right in ({"X-API-Key": "sesame"}, {"Authorization": "Bearer sesame"}, {"Authorization": "bearer sesame"}):
            assert client.post("/v1/predict", content=png(), headers=right).status_code == 200


# --- queue, faults, reload ---


@dataclass
class Slow:
    """Answers when it is let, and counts."""

    gate: threading.Event | None = None
    fault: Exception | None = None
    preprocess: Preprocess = PREPROCESS
    name: str = "slow"
    has_map: bool = False
    temperature: float = 1.0
    sizes: tuple[int, ...] = ()

    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.sizes += (len(images),)
        if self.gate and len(self.sizes) > 1:  # the first one is the service's own
            assert self.gate.wait(10)
        if self.fault and len(self.sizes) > 1:
            raise self.fault
        return images.reshape(len(images), -1)[:, :3].astype(np.float32)

    def output(self, name: str, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        raise AssertionError


def test_confidences_are_those_at_the_temperature(model: Classifier) -> None:
    cold, warm = (replace(model, engine=Slow(temperature=value)) for value in (100.0, 400.0))  # logits are bytes
    found = []
    for one in (cold, warm):
        with served(one) as client:
            chances = client.post("/v1/predict", content=png()).json()["predictions"][0]["classes"]
            found.append({chance["name"]: chance["prob"] for chance in chances})
    ratios = [{name: np.log(each[name] / each[NAMES[0]]) for name in NAMES} for each in found]
    assert max(abs(value) for value in ratios[0].values()) > 0.1
    assert ratios[1] == pytest.approx({name: value / 4 for name, value in ratios[0].items()}, rel=1e-3)


def at_once(calls: list[Callable[[], Any]]) -> list[Any]:
    found: list[Any] = [None] * len(calls)

    def call(place: int) -> None:
        found[place] = calls[place]()

    threads = [threading.Thread(target=call, args=(place,)) for place in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_a_full_queue_says_when_to_come_again(model: Classifier) -> None:
    gate = threading.Event()
    engine = Slow(gate)
    with served(replace(model, engine=engine), replace(LIMITS, waiting=3)) as client:
        refusals: list[int] = []

        def ask() -> Any:
            answer = client.post("/v1/predict", content=png())
            if answer.status_code == 503:
                refusals.append(1)
                if len(refusals) == 3:
                    gate.set()
            return answer

        answers = at_once([ask] * 6)
        refused = [answer for answer in answers if answer.status_code == 503]
        assert len(refused) == 3 and all(answer.headers["retry-after"] == "1" for answer in refused)
        assert [answer.status_code for answer in answers].count(200) == 3
        assert client.post("/v1/predict", files=form(*[png()] * 4)).status_code == 503  # more than ever may wait
        assert client.post("/v1/predict", content=png()).status_code == 200
        assert "resnetkit_images_waiting 0.0" in client.get("/metrics").text


def test_a_place_that_is_given_up_is_free_at_once_with_its_bytes(model: Classifier) -> None:
    gate = threading.Event()
    batches = Batches(replace(LIMITS, waiting=2))
    slow = replace(model, engine=Slow(gate, sizes=(1,)))
    held = batches.submit(slow, [("held", png())])  # the engine works on it
    deadline = time.monotonic() + 10
    while not slow.engine.sizes[1:]:  # type: ignore[attr-defined]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    (given_up,) = batches.submit(slow, [("given up", png())])
    with pytest.raises(Full):
        batches.submit(slow, [("too many", png())])
    assert given_up.cancel() and batches.admitted == 1
    (later,) = batches.submit(slow, [("later", png())])
    gate.set()
    assert len(held[0].result(10)) == len(later.result(10)) == 3 and batches.admitted == 0
    batches.close()


def test_images_of_several_requests_are_computed_together(model: Classifier) -> None:
    gate = threading.Event()
    engine = Slow(gate)
    with served(replace(model, engine=engine)) as client:
        threading.Timer(0.5, gate.set).start()
        answers = at_once([lambda: client.post("/v1/predict", content=png())] * 7)
    assert all(answer.status_code == 200 for answer in answers)
    assert sum(engine.sizes) == 8 and max(engine.sizes) == 4 and len(engine.sizes) < 8


def test_a_request_that_takes_too_long_is_given_up(model: Classifier) -> None:
    gate = threading.Event()
    with served(replace(model, engine=Slow(gate)), replace(LIMITS, seconds=0.3)) as client:
        started = time.monotonic()
        answer = client.post("/v1/predict", content=png())
        assert answer.status_code == 503 and time.monotonic() - started < 3 and "0.3 s" in answer.text
        gate.set()


def test_a_fault_of_ours_is_told_to_the_log_alone(model: Classifier, capfd: pytest.CaptureFixture[str]) -> None:
    engine = Slow(fault=RuntimeError("secret in /srv/model"))
    with served(replace(model, engine=engine)) as client:
        answer = client.post("/v1/predict", content=png())
        assert answer.status_code == 500 and "secret" not in answer.text and set(answer.json()) == {"error"}
        assert "secret in /srv/model" in capfd.readouterr().err
        engine.fault = None
        assert client.post("/v1/predict", content=png()).status_code == 200


def test_another_model_takes_the_place_between_batches(model: Classifier) -> None:
    other = replace(model, class_names=("x", "y", "z"))
    models = iter([model, other])
    slot = Slot(lambda: next(models))
    with TestClient(build_app(slot, LIMITS)) as client:
        assert client.get("/v1/model").json()["classes"] == list(NAMES)
        slot.reload()
        assert client.get("/v1/model").json()["classes"] == ["x", "y", "z"]
        said = client.post("/v1/predict", content=png()).json()["predictions"][0]["classes"]
        assert {chance["name"] for chance in said} == {"x", "y", "z"}
        with pytest.raises(StopIteration):
            slot.reload()
        assert client.post("/v1/predict", content=png()).status_code == 200


def test_a_model_of_gray_images_is_refused(model: Classifier) -> None:
    with pytest.raises(BadRequest, match="3 channels"):
        Slot(lambda: replace(model, channels=1))
