"""How the world reaches a service: an HTTPRoute of the Gateway API, or an Ingress.

Both lead to the service's own gateway, never to replicas: weights, keys and limits are its
business, and so a change of them needs no change here.
"""

from cloud.hosting.errors import RefusedError
from cloud.hosting.kubernetes import kinds
from cloud.hosting.kubernetes.kinds import Manifest
from cloud.hosting.targets import Route


def build(route: Route, metadata: Manifest, service: str, port: int) -> Manifest:
    """Return the route's object."""
    if route.gateway_api is not None:
        return _http_route(route, route.gateway_api, metadata, service, port)
    return _ingress(route, metadata, service, port)


def url(route: Manifest) -> str | None:
    """Return the URL that a route's object stands for."""
    spec = route.get("spec", {})
    hosts = spec.get("hostnames") or [rule.get("host") for rule in spec.get("rules", [])]
    if not hosts or not hosts[0]:
        return None
    # whether a Gateway's listener has TLS is the Gateway's secret: https unless known otherwise
    plain = route["kind"] == kinds.INGRESS.name and not spec.get("tls")
    return f"{'http' if plain else 'https'}://{hosts[0]}"


def parent(gateway_api: str) -> tuple[str, str]:
    """Return namespace and name of a Gateway; raise RefusedError if it is not NAMESPACE/NAME."""
    namespace, slash, name = gateway_api.partition("/")
    if not (namespace and slash and name) or "/" in name:
        raise RefusedError(f"route.gateway_api: {gateway_api!r}: write NAMESPACE/NAME of a Gateway")
    return namespace, name


def _http_route(
    route: Route, gateway_api: str, metadata: Manifest, service: str, port: int
) -> Manifest:
    namespace, name = parent(gateway_api)
    spec = {
        "parentRefs": [
            {
                "group": "gateway.networking.k8s.io",
                "kind": "Gateway",
                "namespace": namespace,
                "name": name,
            }
        ],
        "hostnames": [route.host],
        "rules": [
            {
                "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
                "backendRefs": [
                    {"group": "", "kind": "Service", "name": service, "port": port, "weight": 1}
                ],
            }
        ],
    }
    return kinds.HTTP_ROUTE.manifest(metadata, spec=spec)


def _ingress(route: Route, metadata: Manifest, service: str, port: int) -> Manifest:
    backend = {"service": {"name": service, "port": {"number": port}}}
    spec: Manifest = {
        "rules": [
            {
                "host": route.host,
                "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]},
            }
        ]
    }
    if route.ingress_class is not None:
        spec["ingressClassName"] = route.ingress_class
    if route.tls_secret is not None:
        spec["tls"] = [{"hosts": [route.host], "secretName": route.tls_secret}]
    return kinds.INGRESS.manifest(metadata, spec=spec)
