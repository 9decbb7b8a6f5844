"""Clients and proxies as people have them, against a real server process."""

import getpass
import http.client
import json
import shutil
import socket
import subprocess
from contextlib import contextmanager
from urllib.parse import urlsplit

import httpx
import pytest
import requests

from tests import models
from tests.pictures import encoded, noise
from tests.servers import free_port, serving, until

IMAGE = encoded(noise(300, 400))
HTML = {"accept": "text/html"}
FETCH = """
const [url, path] = process.argv.slice(1);
const form = new FormData();
form.append("file", new Blob([require("node:fs").readFileSync(path)]), "x.png");
form.append("class", "PNEUMONIA");
fetch(`${url}/explain`, { method: "POST", body: form }).then((r) => r.text()).then(console.log);
"""


def tool(name):
    return shutil.which(name) or pytest.skip(f"needs {name}")


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "image.png"
    path.write_bytes(IMAGE)
    return path


@pytest.fixture
def url(shared_server):
    return shared_server.url


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def explained_class(text):
    return json.loads(text)["explanation"]["class"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["-F", "file=@{file}", "-F", "class=PNEUMONIA", "{url}/explain"],
        ["-F", "image=@{file}", "{url}/explain/?class=PNEUMONIA"],
        ["--data-binary", "@{file}", "{url}/explain?class=PNEUMONIA"],
        ["-H", "Transfer-Encoding: chunked", "--data-binary", "@{file}", "{url}/explain?class=PNEUMONIA"],
        ["-H", "Expect: 100-continue", "-F", "file=@{file}", "-F", "class=PNEUMONIA", "{url}/explain"],
        ["--proxy", "{url}", "--data-binary", "@{file}", "http://any.example/explain?class=PNEUMONIA"],
    ],
    ids=["form", "field image", "raw", "chunked", "expect", "absolute form"],
)
def test_curl(url, file, arguments):
    """In every way that it sends a file; with a proxy it sends targets in absolute form."""
    asked = [argument.format(file=file, url=url) for argument in arguments]
    assert explained_class(run(tool("curl"), "--silent", "--fail-with-body", *asked)) == "PNEUMONIA"


def test_wget(url, file, tmp_path):
    """It looks at a page by HEAD, and posts a file."""
    run(tool("wget"), "--quiet", "--spider", f"{url}/livez")
    target = tmp_path / "answer.json"
    run(tool("wget"), "--quiet", f"--post-file={file}", "-O", str(target), f"{url}/explain?class=PNEUMONIA")
    assert explained_class(target.read_text()) == "PNEUMONIA"


def test_fetch_with_form_data(url, file):
    """As browsers and Node.js send it."""
    assert explained_class(run(tool("node"), "-e", FETCH, url, str(file))) == "PNEUMONIA"


def test_requests(url):
    """Python's most used client, with a form."""
    answer = requests.post(f"{url}/explain", files={"file": IMAGE}, data={"class": "PNEUMONIA"}, timeout=60)
    assert explained_class(answer.text) == "PNEUMONIA"


@pytest.mark.parametrize("path", ["/predict", "/explain?faithfulness=true"])
def test_a_client_that_closes_its_own_side_gets_its_answer(url, path):
    """Whether it comes immediately, or after an interim response that asks whether the client is still there."""
    connection = http.client.HTTPConnection("127.0.0.1", urlsplit(url).port, timeout=60)
    connection.request("POST", path, body=IMAGE)
    connection.sock.shutdown(socket.SHUT_WR)
    answer = connection.getresponse()
    assert answer.status == 200
    assert json.loads(answer.read())["label"]
    connection.close()


def test_a_client_that_disconnects_is_noticed(shared_server):
    """Work that takes longer than a second is dropped, and the next request is answered."""
    head = b"POST /explain?faithfulness=true HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(IMAGE)
    for _ in range(30):
        with socket.create_connection(("127.0.0.1", shared_server.port)) as gone:
            gone.sendall(head + IMAGE)
    until(lambda: shared_server.in_flight() == 0)
    assert httpx.post(f"{shared_server.url}/predict", content=IMAGE).status_code == 200


NGINX = """
daemon off;
user {user};
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    client_max_body_size 1m;
    server {{
        listen 127.0.0.1:{port};
        location /kept/ {{ proxy_pass http://127.0.0.1:{upstream}; }}
        location /kept {{ proxy_pass http://127.0.0.1:{upstream}; }}
        location /kept/stripped/ {{ proxy_pass http://127.0.0.1:{upstream}/; }}
        location /kept/unbuffered/ {{
            proxy_pass http://127.0.0.1:{upstream}/;
            proxy_request_buffering off;
            proxy_buffering off;
            proxy_http_version 1.1;
        }}
        location /closed/ {{ proxy_pass http://127.0.0.1:{closed}/; }}
    }}
}}
"""


@pytest.fixture(scope="module")
def proxied(entry_of, tmp_path_factory):
    """The address of an nginx in front of a server that knows its prefix."""
    nginx, folder, port = tool("nginx"), tmp_path_factory.mktemp("nginx"), free_port()
    configuration = folder / "nginx.conf"
    with serving(entry_of(models.batch_norm_dropout), LIGHTBOX_ROOT_PATH="/kept") as server:
        ports = {"upstream": server.port, "port": port, "closed": free_port()}
        configuration.write_text(NGINX.format(user=getpass.getuser(), folder=folder, **ports))
        with running([nginx, "-c", configuration, "-p", folder]):
            address = f"http://127.0.0.1:{port}"
            until(lambda: answers(f"{address}/kept/livez"))
            yield address


@contextmanager
def running(command):
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.terminate()


def answers(url):
    try:
        return httpx.get(url).status_code == 200
    except httpx.ConnectError:
        return False


@pytest.mark.parametrize("prefix", ["/kept", "/kept/stripped", "/kept/unbuffered"])
def test_behind_nginx(proxied, prefix):
    """Which keeps the prefix or strips it, buffers or doesn't."""
    answer = httpx.post(f"{proxied}{prefix}/explain", files={"file": IMAGE}, data={"class": "PNEUMONIA"}, timeout=60)
    assert explained_class(answer.text) == "PNEUMONIA"
    assert httpx.get(f"{proxied}{prefix}/", headers=HTML).text.startswith("<!doctype html>")
    assert httpx.get(f"{proxied}{prefix}/static/page.js").status_code == 200
    assert "/kept/openapi.json" in httpx.get(f"{proxied}{prefix}/docs").text


def test_behind_nginx_the_bare_prefix_leads_to_the_page(proxied):
    """By an address that holds for the client, not for the proxy's upstream."""
    answer = httpx.get(f"{proxied}/kept", headers=HTML, follow_redirects=True)
    assert str(answer.url) == f"{proxied}/kept/"
    assert answer.text.startswith("<!doctype html>")


def test_nginx_refuses_what_is_too_large_for_it(proxied):
    """With its own 413, before the service sees it; and the service goes on."""
    large = httpx.post(f"{proxied}/kept/predict", content=bytes(2_000_000))
    assert large.status_code == 413
    assert "nginx" in large.text
    assert httpx.post(f"{proxied}/kept/predict", content=IMAGE).status_code == 200


def test_a_closed_upstream_is_nginxs_error(proxied):
    """The page tells a proxy's answer from the service's by its type."""
    answer = httpx.post(f"{proxied}/closed/predict", content=IMAGE)
    assert answer.status_code == 502
    assert "problem" not in answer.headers["content-type"]
