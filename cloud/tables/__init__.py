"""The registry's tables.

    api_key
    bundle ◄── bundle_blob, bundle_use  device ◄── desired
      ▲                                  ▲ ▲ ▲
    version ──► model ◄── alias, card    │ │ └──── certificate
                  ▲                      │ └────── enrolment_token (once used)
              deployment               batch ◄── record          rejected_batch      event

    lineage (outlives its version)     search_*: an index of models, see cloud.tables.search

    encoding (of a blob)
    blob, collection: what is known of bytes in the store, see cloud.storage.presence

    rollout ◄── rollout_device ──► device     lease     (deployment names its rollout)

    service ◄── service_revision, service_key     service_run

    image_login (for the devices of a selector)

    run     webhook ◄── delivery, dead_letter     idempotency_key

Times are seconds since 1970 (UTC) as floats, as on the wire. JSON columns hold plain values.
A change here needs a migration in cloud/migrations/versions; a test compares the two.
"""

from cloud.tables import naming as naming  # noqa: I001 - the names come first
from cloud.tables.models import (
    Alias,
    Bundle,
    BundleBlob,
    BundleUse,
    Card,
    Lineage,
    Model,
    Version,
)
from cloud.tables.search import SearchEntry, SearchEntryText, SearchFact, SearchText, SearchWord
from cloud.tables.storage import Blob, Collection
from cloud.tables.deltas import Encoding
from cloud.tables.devices import Certificate, Device, EnrolmentToken
from cloud.tables.deployments import Deployment, Desired
from cloud.tables.telemetry import Batch, Record, RejectedBatch
from cloud.tables.imagelogins import ImageLogin
from cloud.tables.history import (
    ApiKey,
    DeadLetter,
    Delivery,
    Event,
    IdempotencyKey,
    Run,
    Webhook,
)
from cloud.tables.rollouts import Lease, Rollout, RolloutDevice
from cloud.tables.serving import Service, ServiceKey, ServiceRevision, ServiceRun

__all__ = [
    "Alias",
    "ApiKey",
    "Batch",
    "Blob",
    "Bundle",
    "BundleBlob",
    "BundleUse",
    "Card",
    "Certificate",
    "Collection",
    "DeadLetter",
    "Delivery",
    "Deployment",
    "Desired",
    "Device",
    "Encoding",
    "EnrolmentToken",
    "Event",
    "IdempotencyKey",
    "ImageLogin",
    "Lease",
    "Lineage",
    "Model",
    "Record",
    "RejectedBatch",
    "Rollout",
    "RolloutDevice",
    "Run",
    "SearchEntry",
    "SearchEntryText",
    "SearchFact",
    "SearchText",
    "SearchWord",
    "Service",
    "ServiceKey",
    "ServiceRevision",
    "ServiceRun",
    "Version",
    "Webhook",
]
