"""The Open Inference Protocol (V2) over gRPC, over a server process."""

import subprocess
import sys

import grpc
import httpx
import numpy as np
import pytest
from starlette.testclient import TestClient

from app.api.protocols.grpc import open_inference_pb2 as messages
from app.api.protocols.grpc.open_inference_pb2_grpc import GRPCInferenceServiceStub
from app.errors import SetupError
from app.main import create_app
from app.settings import Settings
from tests import models
from tests.doubles import BrightnessRuntime
from tests.pictures import constant, decoded, encoded, noise
from tests.protocol_bodies import raw_bytes
from tests.servers import free_port, serving

pytestmark = pytest.mark.process

BRIGHT, DARK = encoded(noise(40, 60, 3)), encoded(constant(10))
NAME = "batch_norm_dropout"
KEY = (("authorization", "Bearer secret"),)


@pytest.fixture(scope="module")
def server(entry_of):
    """A server process that speaks both, with a key and small limits, and its port of gRPC."""
    port = free_port()
    with serving(
        entry_of(models.batch_norm_dropout),
        LIGHTBOX_GRPC_PORT=str(port),
        LIGHTBOX_API_KEYS="secret",
        LIGHTBOX_MAX_UPLOAD_BYTES="200000",
        LIGHTBOX_MAX_IMAGES="4",
        LIGHTBOX_REQUEST_TIMEOUT_S="20",
    ) as process:
        yield process, port


@pytest.fixture(scope="module")
def channel(server):
    with grpc.insecure_channel(f"127.0.0.1:{server[1]}", options=[("grpc.max_send_message_length", -1)]) as channel:
        yield channel


@pytest.fixture(scope="module")
def stub(channel):
    return GRPCInferenceServiceStub(channel)


def asked(*images, model=NAME, raw=False, **fields):
    """A request about encoded images, in either form of the content."""
    request = messages.ModelInferRequest(model_name=model, **fields)
    tensor = request.inputs.add(name="image", datatype="BYTES", shape=[len(images)])
    if raw:
        request.raw_input_contents.append(raw_bytes(*images))
    else:
        tensor.contents.bytes_contents.extend(images)
    return request


def refused(call, *arguments, **keywords):
    """The code and the details with which a call ends."""
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments, **keywords)
    return caught.value


def test_health_needs_no_key(stub):
    """Of the server and of a model; an unknown model has none."""
    assert stub.ServerLive(messages.ServerLiveRequest()).live
    assert stub.ServerReady(messages.ServerReadyRequest()).ready
    for name in (NAME, f"{NAME}:explain"):
        assert stub.ModelReady(messages.ModelReadyRequest(name=name, version="1")).ready
    error = refused(stub.ModelReady, messages.ModelReadyRequest(name="nobody"))
    assert error.code() is grpc.StatusCode.NOT_FOUND


def test_everything_else_needs_a_key(stub):
    """In the same fields as over HTTP."""
    for call, request in (
        (stub.ModelInfer, asked(BRIGHT)),
        (stub.ServerMetadata, messages.ServerMetadataRequest()),
        (stub.ModelMetadata, messages.ModelMetadataRequest(name=NAME)),
    ):
        for metadata in ((), (("authorization", "Bearer wrong"),), (("x-api-key", "wrong"),)):
            assert refused(call, request, metadata=metadata).code() is grpc.StatusCode.UNAUTHENTICATED
    for metadata in (KEY, (("authorization", "bearer secret"),), (("x-api-key", "secret"),)):
        assert stub.ServerMetadata(messages.ServerMetadataRequest(), metadata=metadata).name == "lightbox"


def test_the_metadata_is_that_of_http(server, stub):
    """Of both models."""
    for name in (NAME, f"{NAME}:explain"):
        over_http = httpx.get(f"{server[0].url}/v2/models/{name}", headers={"x-api-key": "secret"}).json()
        described = stub.ModelMetadata(messages.ModelMetadataRequest(name=name), metadata=KEY)
        assert (described.name, list(described.versions)) == (over_http["name"], over_http["versions"])
        for side in ("inputs", "outputs"):
            tensors = [(each.name, each.datatype, list(each.shape)) for each in getattr(described, side)]
            assert tensors == [(each["name"], each["datatype"], each["shape"]) for each in over_http[side]]


@pytest.mark.parametrize("raw", [False, True])
def test_the_answer_is_that_of_explain(server, stub, raw):
    """In the form of the request; the id is repeated."""
    request = asked(BRIGHT, DARK, model=f"{NAME}:explain", raw=raw, id="42")
    request.parameters["class"].string_param = "PNEUMONIA"
    request.parameters["alpha"].double_param = 0.25
    request.parameters["counterfactual"].bool_param = True
    answer = stub.ModelInfer(request, metadata=KEY)
    assert (answer.id, answer.model_name, answer.model_version) == ("42", f"{NAME}:explain", "1")
    outputs = {output.name: (index, output) for index, output in enumerate(answer.outputs)}
    assert list(outputs) == ["label", "probabilities", "novelty", "heatmap", "overlay"]

    def numbers(name):
        index, output = outputs[name]
        data = np.frombuffer(answer.raw_output_contents[index], np.float32) if raw else output.contents.fp32_contents
        return np.array(data, np.float32).reshape(output.shape)

    for index, image in enumerate((BRIGHT, DARK)):
        parameters = {"class": "PNEUMONIA", "alpha": 0.25, "counterfactual": True}
        expected = httpx.post(
            f"{server[0].url}/explain", content=image, params=parameters, headers={"x-api-key": "secret"}
        ).json()
        assert numbers("probabilities")[index] == pytest.approx(list(expected["probabilities"].values()), rel=1e-4)
        assert numbers("heatmap")[index] == pytest.approx(
            np.array(expected["explanation"]["heatmap"]["values"]), abs=1e-4
        )
    if raw:
        first = answer.raw_output_contents[4]
        overlay = first[4 : 4 + int.from_bytes(first[:4], "little")]
    else:
        overlay = answer.outputs[4].contents.bytes_contents[0]
    assert decoded(overlay).shape == (40, 60, 3)


@pytest.mark.parametrize("raw", [False, True])
def test_pixels(stub, raw):
    """The overlay without opacity is what was sent."""
    described = stub.ModelMetadata(messages.ModelMetadataRequest(name=NAME), metadata=KEY).inputs[1]
    pixels = np.random.default_rng(0).integers(0, 256, (1, *described.shape[1:]), np.uint8)
    request = messages.ModelInferRequest(model_name=f"{NAME}:explain")
    tensor = request.inputs.add(name="images", datatype="UINT8", shape=pixels.shape)
    if raw:
        request.raw_input_contents.append(pixels.tobytes())
    else:
        tensor.contents.uint_contents.extend(pixels.ravel().tolist())
    request.parameters["alpha"].int64_param = 0
    request.outputs.add(name="overlay")
    answer = stub.ModelInfer(request, metadata=KEY)
    assert [output.name for output in answer.outputs] == ["overlay"]
    overlay = answer.raw_output_contents[0][4:] if raw else answer.outputs[0].contents.bytes_contents[0]
    assert (decoded(overlay) == pixels[0]).all()


def with_parameter(name, **value):
    request = asked(BRIGHT)
    request.parameters[name].MergeFrom(messages.InferParameter(**value))
    return request


def with_output(name):
    request = asked(BRIGHT)
    request.outputs.add(name=name)
    return request


def with_input(raw=None, **fields):
    request = messages.ModelInferRequest(model_name=NAME)
    request.inputs.add(**fields)
    if raw is not None:
        request.raw_input_contents.append(raw)
    return request


def with_contents(**contents):
    return messages.InferTensorContents(**contents)


BYTES = {"name": "image", "datatype": "BYTES", "shape": [1]}
REFUSED = {
    "an unknown model": (asked(BRIGHT, model="nobody"), "NOT_FOUND", "nobody"),
    "an unknown version": (asked(BRIGHT, model_version="9"), "NOT_FOUND", "9"),
    "a version that is no number": (asked(BRIGHT, model_version="latest"), "NOT_FOUND", "latest"),
    "an unknown output": (with_output("logits"), "INVALID_ARGUMENT", "logits"),
    "an unknown parameter": (with_parameter("clas", string_param="x"), "INVALID_ARGUMENT", "clas"),
    "a sequence": (with_parameter("sequence_id", int64_param=1), "UNIMPLEMENTED", "sequence"),
    "no images": (messages.ModelInferRequest(model_name=NAME), "INVALID_ARGUMENT", "none"),
    "a bad image": (asked(BRIGHT, BRIGHT[:200]), "INVALID_ARGUMENT", "image 1: "),
    "no image": (asked(b"hello", BRIGHT), "INVALID_ARGUMENT", "image 0: "),
    "too many images": (asked(*[DARK] * 5), "RESOURCE_EXHAUSTED", "limit is 4"),
    "a wrong type": (with_input(name="image", datatype="FP32", shape=[1]), "INVALID_ARGUMENT", "FP32"),
    "a wrong shape": (with_input(**BYTES | {"shape": [-1]}), "INVALID_ARGUMENT", "shape"),
    "a huge shape": (with_input(**BYTES | {"shape": [2**62]}), "INVALID_ARGUMENT", "shape"),
    "no content": (with_input(**BYTES), "INVALID_ARGUMENT", "elements"),
    "raw beyond its length": (with_input(b"\xff\xff\xff\xffx", **BYTES), "INVALID_ARGUMENT", "longer"),
    "both contents": (
        with_input(raw_bytes(BRIGHT), **BYTES, contents=with_contents(bytes_contents=[BRIGHT])),
        "INVALID_ARGUMENT",
        "raw",
    ),
    "values above 255": (
        with_input(name="images", datatype="UINT8", shape=[1, 1, 1, 1], contents=with_contents(uint_contents=[256])),
        "INVALID_ARGUMENT",
        "255",
    ),
    "shared memory": (
        with_input(**BYTES, parameters={"shared_memory_region": messages.InferParameter(string_param="r")}),
        "UNIMPLEMENTED",
        "shared_memory",
    ),
    "too large": (asked(bytes(300_000)), "RESOURCE_EXHAUSTED", "larger than max"),
}


@pytest.mark.parametrize("row", REFUSED)
def test_refused_requests(stub, row):
    """With the code that the client's retries depend on, and the reason."""
    request, code, reason = REFUSED[row]
    error = refused(stub.ModelInfer, request, metadata=KEY)
    assert error.code().name == code
    assert reason in error.details()


def test_compressed_messages_are_limited(server):
    """By what they decompress to."""
    with grpc.insecure_channel(
        f"127.0.0.1:{server[1]}",
        compression=grpc.Compression.Gzip,
        options=[("grpc.max_send_message_length", -1)],
    ) as channel:
        stub = GRPCInferenceServiceStub(channel)
        assert stub.ModelInfer(asked(BRIGHT), metadata=KEY).outputs
        error = refused(stub.ModelInfer, asked(bytes(5_000_000)), metadata=KEY)
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("method", ["RepositoryIndex", "SystemSharedMemoryRegister", "ModelConfig", "Nonsense"])
def test_methods_that_there_are_not(channel, method):
    """With and without streams."""
    error = refused(channel.unary_unary(f"/inference.GRPCInferenceService/{method}"), b"")
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED
    assert method in error.details()
    stream = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
    error = refused(lambda: list(stream(iter([b"", b""]))))
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED
    assert "ModelStreamInfer" in error.details()


def test_a_message_that_is_none(channel):
    """Bytes that no Protocol Buffers message has."""
    error = refused(channel.unary_unary("/inference.GRPCInferenceService/ModelInfer"), b"\xff" * 100, metadata=KEY)
    assert (error.code(), error.details()) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "the message is not one of the protocol",
    )


def test_a_deadline_of_the_client_ends_the_request(stub):
    """And its slot is free again."""
    error = refused(stub.ModelInfer, asked(BRIGHT, DARK), metadata=KEY, timeout=0.001)
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert stub.ModelInfer(asked(BRIGHT), metadata=KEY).outputs


def test_request_ids_and_metrics(server, stub):
    """The client's id comes back and is in the log; the status is that of HTTP for the same outcome."""
    _, call = stub.ModelInfer.with_call(asked(BRIGHT), metadata=(*KEY, ("x-request-id", "mine-1")))
    assert ("x-request-id", "mine-1") in [tuple(each) for each in call.trailing_metadata()]
    error = refused(stub.ModelInfer, asked(BRIGHT, model="nobody"), metadata=(*KEY, ("x-request-id", "no good")))
    (given,) = [each.value for each in error.trailing_metadata() if each.key == "x-request-id"]
    assert given != "no good"
    metrics = httpx.get(f"{server[0].url}/metrics", headers={"x-api-key": "secret"}).text
    route = "/inference.GRPCInferenceService/ModelInfer"
    for status in (200, 404):
        assert f'lightbox_requests_total{{method="POST",protocol="grpc",route="{route}",status="{status}"}}' in metrics
    assert "mine-1" in server[0].log()


def test_without_a_port_nothing_of_grpc_is_imported():
    """The packages are an extra."""
    code = "import sys, app.main; app.main.create_app(); print(sorted(n for n in sys.modules if n.startswith('grpc')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_without_its_packages_a_port_stops_the_start():
    """With the names of the packages."""
    code = (
        "import sys; sys.modules['grpc'] = None\n"
        "from app.main import create_app; from app.settings import Settings; create_app(Settings(grpc_port=9000))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"{SetupError.__name__}: LIGHTBOX_GRPC_PORT is set, but its packages are missing: grpcio" in done.stderr


def test_a_port_that_is_taken_stops_the_start(server):
    """Two services would otherwise share it."""
    app = create_app(Settings(grpc_port=server[1]), BrightnessRuntime())
    with pytest.raises(SetupError, match="LIGHTBOX_GRPC_PORT"), TestClient(app):
        pass
