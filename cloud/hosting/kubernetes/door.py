"""The one door to the `kubernetes` package: who the cluster is, and requests to it.

Importing this costs 0.6 s and 48 MB, so it is imported when the first cluster is opened. Objects
are plain dictionaries, as in a manifest; the package's 700 model classes have nothing to add to
them and would drop fields that they do not know.
"""

import contextlib
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import urllib3
import yaml
from kubernetes import client, config
from kubernetes.config.config_exception import ConfigException
from kubernetes.config.incluster_config import SERVICE_HOST_ENV_NAME, SERVICE_TOKEN_FILENAME

from cloud.hosting.errors import RefusedError, UnreachableError
from cloud.hosting.kubernetes import errors
from cloud.hosting.kubernetes.errors import CredentialsError
from cloud.hosting.kubernetes.requests import Request

log = logging.getLogger(__name__)

CONNECT_S = 5.0
MAX_ANSWER_BYTES = 64 << 20
"""Of one answer that is read whole: a list of a namespace's objects."""
MAX_ERROR_BYTES = 64 << 10
MAX_LINE_BYTES = 4 << 20
"""Of one line of a stream: an object of a watch."""
CONNECTIONS = 32
USER_AGENT = "packhorse"
_RETRIES = 2
_DEFAULT = config.KUBE_CONFIG_DEFAULT_LOCATION
_config: Any = config  # its functions have no types
_OK = range(200, 300)


class Stream:
    """Lines of an answer as they come, until the server or somebody here ends it."""

    def __init__(self, response: urllib3.BaseHTTPResponse) -> None:
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        """Yield lines without their ends. Raise UnreachableError when the link breaks.

        A line that is longer than MAX_LINE_BYTES comes in pieces.
        """
        rest = b""
        try:
            for piece in self._response.stream(amt=None, decode_content=False):
                *lines, rest = (rest + piece).split(b"\n")
                yield from lines
                if len(rest) > MAX_LINE_BYTES:
                    yield rest
                    rest = b""
        except (urllib3.exceptions.HTTPError, OSError, ValueError, AttributeError) as error:
            # ValueError, AttributeError: what urllib3 makes of a response closed by another thread
            raise UnreachableError(f"the link to the cluster broke: {error}") from error
        finally:
            self.close()
        if rest:
            yield rest

    def end(self) -> None:
        """End it from another thread: whoever reads is woken, and closes it."""
        try:
            self._response.shutdown()
        except (ValueError, RuntimeError, OSError):  # it has ended already
            log.debug("stream ended before")

    def close(self) -> None:
        """Give the connection up; what has not come is not waited for."""
        _close(self._response)


class Door:
    """Requests to one cluster, from any thread."""

    def __init__(self, kubeconfig: Path | None, context: str | None) -> None:
        """Read the configuration; raise CredentialsError saying what is wrong with it."""
        self._kubeconfig, self._context = kubeconfig, context
        self._lock = threading.Lock()
        self._client, self.namespace = self._opened()

    def ask(self, request: Request) -> bytes:
        """Return the answer's body; raise a TargetError that says what was being done."""
        return _whole(self._sent(request), request)

    def relay(self, request: Request) -> tuple[int, bytes]:
        """Return status and body of what a pod answers by way of the API server's proxy.

        Raise a TargetError if the answer is the API server's own, which says so by its form.
        """
        status, data = self._relayed(self._client, request)
        if status == errors.HTTP_UNAUTHORIZED and errors.is_status(data):
            self._renew(self._client)
            status, data = self._relayed(self._client, request)
        if status not in _OK and errors.is_status(data):
            raise errors.of_answer(status, data, doing=request.doing, namespace=request.namespace)
        return status, data

    def stream(self, request: Request) -> Stream:
        """Return an answer that goes on; `timeout_s` is how long the server may be silent."""
        return Stream(self._sent(request))

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()

    def _sent(self, request: Request) -> urllib3.BaseHTTPResponse:
        """Send; if the cluster does not know us any more, read the credentials again, once."""
        used = self._client
        response = self._answer(used, request)
        if response.status == errors.HTTP_UNAUTHORIZED:
            _close(response)
            self._renew(used)
            response = self._answer(self._client, request)
        if response.status in _OK:
            return response
        try:
            said = _read(response, MAX_ERROR_BYTES)
        except (urllib3.exceptions.HTTPError, OSError):
            said = b""
        finally:
            _close(response)
        raise errors.of_answer(
            response.status, said, doing=request.doing, namespace=request.namespace
        )

    def _answer(self, api: Any, request: Request) -> urllib3.BaseHTTPResponse:
        with _explained(request):
            prepared = _prepared(api, request, request.body)
            answer = api.call_api(*prepared, _request_timeout=(CONNECT_S, request.timeout_s))
            response: urllib3.BaseHTTPResponse = answer.response
            return response

    def _relayed(self, api: Any, request: Request) -> tuple[int, bytes]:
        with _explained(request):
            method, url, headers, *_ = _prepared(api, request, None)
            # the package's own way would make JSON of the body a second time
            response: urllib3.BaseHTTPResponse = api.rest_client.pool_manager.request(
                method,
                url,
                body=request.body,
                headers={**headers, "Content-Type": request.content},
                timeout=urllib3.Timeout(connect=CONNECT_S, read=request.timeout_s),
                preload_content=False,
            )
        return response.status, _whole(response, request)

    def _renew(self, used: Any) -> None:
        with self._lock:
            if self._client is used:  # else another thread did
                log.info("reading the cluster's credentials again")
                self._client, self.namespace = self._opened()

    def _opened(self) -> tuple[Any, str]:
        settings: Any = client.Configuration()
        # what was sent may have been done; all that is sent may be done twice
        settings.retries = urllib3.Retry(
            total=_RETRIES, connect=1, read=1, status=0, redirect=0, other=0, allowed_methods=None
        )
        settings.connection_pool_maxsize = CONNECTIONS
        try:
            namespace = self._load(settings)
        except (ConfigException, yaml.YAMLError, OSError, KeyError, TypeError, ValueError) as error:
            where = self._kubeconfig or "the default kubeconfig"
            named = f", context {self._context}" if self._context else ""
            raise CredentialsError(
                f"{where}{named}: {error}: give a kubeconfig that kubectl can use"
            ) from error
        settings.keep_alive = True
        api = client.ApiClient(settings)
        api.user_agent = USER_AGENT
        return api, namespace

    def _load(self, settings: Any) -> str:
        """Fill the settings in; return the namespace that goes with them."""
        if self._in_cluster():
            _config.load_incluster_config(client_configuration=settings)
            return Path(SERVICE_TOKEN_FILENAME).with_name("namespace").read_text().strip()
        file = str(self._kubeconfig) if self._kubeconfig else None
        if file is not None and not Path(file).is_file():
            raise FileNotFoundError(f"{file} is not there")
        _config.load_kube_config(file, self._context, settings, persist_config=False)
        contexts, current = _config.list_kube_config_contexts(file)
        name = self._context or current["name"]
        chosen = next(entry for entry in contexts if entry["name"] == name)
        return str(chosen["context"].get("namespace") or "default")

    def _in_cluster(self) -> bool:
        if self._kubeconfig is not None or self._context is not None:
            return False
        default = [Path(file).expanduser() for file in _DEFAULT.split(os.pathsep) if file]
        return SERVICE_HOST_ENV_NAME in os.environ and not any(map(Path.exists, default))


def _prepared(api: Any, request: Request, body: Any) -> Any:
    headers = {**request.headers, "Accept": request.accept}
    if request.body is not None:
        headers["Content-Type"] = request.content
    return api.param_serialize(
        request.method,
        request.path,
        query_params=list(request.query.items()),
        header_params=headers,
        body=body,
        auth_settings=["BearerToken"],
    )


@contextlib.contextmanager
def _explained(request: Request) -> Iterator[None]:
    """Turn what the package raises into what targets raise."""
    try:
        yield
    except (urllib3.exceptions.HTTPError, client.ApiException, OSError) as error:
        raise UnreachableError(f"{request.doing}: the cluster does not answer: {error}") from error
    except ConfigException as error:
        raise CredentialsError(f"{request.doing}: {error}: mend the kubeconfig") from error


def _whole(response: urllib3.BaseHTTPResponse, request: Request) -> bytes:
    """Return an answer's body, of which there may be MAX_ANSWER_BYTES; close it."""
    try:
        data = _read(response, MAX_ANSWER_BYTES + 1)
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise UnreachableError(f"{request.doing}: the answer broke off: {error}") from error
    finally:
        _close(response)
    if len(data) > MAX_ANSWER_BYTES:
        raise RefusedError(f"{request.doing}: the answer is over {MAX_ANSWER_BYTES} bytes")
    return data


def _read(response: urllib3.BaseHTTPResponse, most: int) -> bytes:
    return response.read(most, decode_content=True) or b""


def _close(response: urllib3.BaseHTTPResponse) -> None:
    response.close()
    response.release_conn()
