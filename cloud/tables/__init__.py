"""The registry's tables.

    api_key
    bundle ◄── bundle_blob              device ◄── desired
      ▲                                  ▲ ▲ ▲
    version ──► model                    │ │ └──── certificate
      ▲                                  │ └────── enrolment_token (once used)
    deployment                         batch ◄── record          rejected_batch      event

Times are seconds since 1970 (UTC) as floats, as on the wire. JSON columns hold plain values.
A change here needs a migration in cloud/migrations/versions; a test compares the two.
"""

from cloud.tables import naming as naming  # noqa: I001 - the names come first
from cloud.tables.models import Bundle, BundleBlob, Model, Version
from cloud.tables.devices import Certificate, Device, EnrolmentToken
from cloud.tables.deployments import Deployment, Desired
from cloud.tables.telemetry import Batch, Record, RejectedBatch
from cloud.tables.history import ApiKey, Event

__all__ = [
    "ApiKey",
    "Batch",
    "Bundle",
    "BundleBlob",
    "Certificate",
    "Deployment",
    "Desired",
    "Device",
    "EnrolmentToken",
    "Event",
    "Model",
    "Record",
    "RejectedBatch",
    "Version",
]
